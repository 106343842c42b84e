"""Several sizes of one export behind one face: each photograph goes to the size nearest its aspect.

They are artifacts side by side, or one artifact with an entry point for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from datk.depth.buckets import Fit, choose_bucket
from datk.depth.io_spec import Contract, Size
from datk.depth.runner import DepthMap, ImageU8, Runner, predict_photo
from datk.errors import DataError
from datk.targets.base import Target


def open_packed(target: Target, artifact: Path, contract: Contract) -> BucketRunner:
    """A runner over every entry point of one artifact. Raises as target.open does."""
    return BucketRunner(contract.packed_sizes, contract, lambda size: target.open(artifact, contract.at(size)))


class BucketRunner:
    """Opens a size when the first photograph needs it, and keeps it.

    Takes photographs of any size by predict_photo; `predict` serves bucket images of any of its sizes.
    """

    def __init__(self, sizes: Sequence[Size], contract: Contract, open_one: Callable[[Size], Runner]) -> None:
        self._sizes = list(sizes)
        self._open = open_one
        self._opened: dict[Size, Runner] = {}
        self.name = str(contract.artifact)
        self.input_size = contract.input_size
        self.depth_kind = contract.depth_kind
        self.label = self._runner(contract.input_size).label

    def fit(self, photo: ImageU8) -> Fit:
        """Which bucket an (H, W, 3) photograph takes, and how far it is stretched."""
        return choose_bucket((photo.shape[0], photo.shape[1]), self._sizes)

    def predict_photo(self, photo: ImageU8) -> DepthMap:
        """(H, W, 3) uint8 RGB -> (H, W) float32."""
        return predict_photo(self._runner(self.fit(photo).bucket), photo)

    def predict(self, image: ImageU8) -> DepthMap:
        """(h, w, 3) uint8 RGB of one of the sizes -> (h, w) float32. Raises DataError for another size."""
        size = (image.shape[0], image.shape[1])
        if size not in self._sizes:
            known = ", ".join(f"{h}x{w}" for h, w in self._sizes)
            raise DataError(f"expected a uint8 RGB image of one of {known}, got {image.shape}")
        return self._runner(size).predict(image)

    def close(self) -> None:
        """Free every artifact that was opened."""
        for runner in self._opened.values():
            runner.close()
        self._opened.clear()

    def _runner(self, size: Size) -> Runner:
        if size not in self._opened:
            self._opened[size] = self._open(size)
        return self._opened[size]
