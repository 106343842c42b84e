"""The two sources training reads: synthetic images with exact depth, images with pseudo-labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from datk.data.sample import disparity_from_depth, min_max
from datk.depth.preprocess import read_image
from datk.errors import DataError
from datk.train.samples import TrainingSample

if TYPE_CHECKING:
    from datk.data.sources import ImageSource
    from datk.data.synthetic import SyntheticItem
    from datk.train.labelling.read import LabelFolder


@dataclass(frozen=True)
class SyntheticSource:
    """Rendered images: target = 1 / depth, sky -> 0 and valid, min-max 0..1 over the map (the paper's target)."""

    items: Sequence[SyntheticItem]

    def __len__(self) -> int:
        return len(self.items)

    def key(self, index: int) -> str:
        """The image's file."""
        return str(self.items[index].image_path)

    def load(self, index: int) -> TrainingSample:
        item = self.items[index]
        image = read_image(Path(item.image_path))
        depth_m = read_depth(Path(item.depth_path))
        disparity, valid = disparity_from_depth(depth_m)
        if not valid.any():
            raise DataError(f"{item.depth_path}: no pixel with a known depth", hint="render the set again")
        return TrainingSample(image, min_max(disparity, valid), valid)


@dataclass(frozen=True)
class PseudoLabelSource:
    """Images with the teacher's disparity, min-max 0..1 as stored; every pixel counts.

    labels: the usable ones of a finished folder. images: the source they were made from. chosen: (N,) which of the
    labels, by index; None: all.
    """

    labels: LabelFolder
    images: ImageSource
    chosen: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels) if self.chosen is None else len(self.chosen)

    def key(self, index: int) -> str:
        """The image's name in its source."""
        return self.images.key(self.labels.number(self._label(index)))

    def _label(self, index: int) -> int:
        return index if self.chosen is None else int(self.chosen[index])

    def load(self, index: int) -> TrainingSample:
        label = self._label(index)
        disparity = self.labels.label(label)
        image = self.images.read(self.labels.number(label))
        return TrainingSample(image, disparity, np.ones(disparity.shape, np.bool_))


def rendered(folder: Path) -> SyntheticSource:
    """What datk.data.synthetic.generate wrote into a folder. Raises DataError when it is not whole."""
    from datk.data.synthetic import load

    return SyntheticSource(load(folder))


def read_depth(path: Path) -> NDArray[np.float32]:
    """(H, W) float32 metres, inf = sky. Raises DataError naming a file that is missing, damaged or of another shape."""
    return _read_array(path, "depth map").astype(np.float32, copy=False)


def _read_array(path: Path, what: str) -> NDArray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a readable {what} ({error})", hint="delete it and make it again") from error
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{path}: expected a {what} of shape (H, W), got {array.dtype} {array.shape}")
    return np.asarray(array)
