"""A runner that remembers its maps: one reference is compared with many artifacts on the same photographs."""

from __future__ import annotations

import hashlib

from datk.depth.runner import DepthMap, ImageU8, Runner


class CachedRunner:
    """Answers a bucket image it has seen before from memory: 4 bytes a pixel, h * w * 4 an image, until closed."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._maps: dict[bytes, DepthMap] = {}
        self.name = runner.name
        self.label = runner.label
        self.input_size = runner.input_size
        self.depth_kind = runner.depth_kind

    def predict(self, image: ImageU8) -> DepthMap:
        """(h, w, 3) uint8 RGB of input_size -> (h, w) float32, read-only."""
        key = hashlib.sha256(image.tobytes() + str((image.shape, image.dtype)).encode()).digest()
        if key not in self._maps:
            depth = self._runner.predict(image)
            depth.flags.writeable = False
            self._maps[key] = depth
        return self._maps[key]

    def close(self) -> None:
        """Forget the maps and close the runner behind."""
        self._maps.clear()
        self._runner.close()
