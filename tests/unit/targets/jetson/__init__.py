"""The Jetson target."""
