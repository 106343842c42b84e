"""Several artifacts of one export behind one face: each photograph goes to the size nearest its aspect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from datk.depth.buckets import Fit, choose_bucket
from datk.depth.io_spec import Contract, Size
from datk.depth.runner import DepthMap, ImageU8, Runner, predict_photo
from datk.errors import DataError


class BucketRunner:
    """Opens an artifact when the first photograph needs it, and keeps it.

    Takes photographs of any size by predict_photo; `predict` serves bucket images of any of its sizes.
    """

    def __init__(self, artifacts: Mapping[Size, Path], contract: Contract, open_one: Callable[[Path], Runner]) -> None:
        self._artifacts = dict(artifacts)
        self._open = open_one
        self._opened: dict[Size, Runner] = {}
        self.name = str(contract.artifact)
        self.input_size = contract.input_size
        self.depth_kind = contract.depth_kind
        self.label = self._runner(contract.input_size).label

    def fit(self, photo: ImageU8) -> Fit:
        """Which bucket an (H, W, 3) photograph takes, and how far it is stretched."""
        return choose_bucket((photo.shape[0], photo.shape[1]), list(self._artifacts))

    def predict_photo(self, photo: ImageU8) -> DepthMap:
        """(H, W, 3) uint8 RGB -> (H, W) float32."""
        return predict_photo(self._runner(self.fit(photo).bucket), photo)

    def predict(self, image: ImageU8) -> DepthMap:
        """(h, w, 3) uint8 RGB of one of the sizes -> (h, w) float32. Raises DataError for another size."""
        size = (image.shape[0], image.shape[1])
        if size not in self._artifacts:
            known = ", ".join(f"{h}x{w}" for h, w in self._artifacts)
            raise DataError(f"expected a uint8 RGB image of one of {known}, got {image.shape}")
        return self._runner(size).predict(image)

    def close(self) -> None:
        """Free every artifact that was opened."""
        for runner in self._opened.values():
            runner.close()
        self._opened.clear()

    def _runner(self, size: Size) -> Runner:
        if size not in self._opened:
            self._opened[size] = self._open(self._artifacts[size])
        return self._opened[size]
