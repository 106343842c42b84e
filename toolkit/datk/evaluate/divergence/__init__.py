"""Which layer of a saved artifact is wrong: the float net follows it, layer by layer, on the artifact's own inputs."""
