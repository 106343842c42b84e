"""The two folders training reads: synthetic images with exact depth, photographs with pseudo-labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from datk.data.sample import disparity_from_depth, min_max
from datk.depth.preprocess import read_image
from datk.errors import DataError
from datk.train.samples import TrainingSample

if TYPE_CHECKING:
    from datk.data.synthetic import SyntheticItem

PNG_MAX = 65535


@dataclass(frozen=True)
class SyntheticSource:
    """Rendered images: target = 1 / depth, sky -> 0 and valid, min-max 0..1 over the map (the paper's target)."""

    items: Sequence[SyntheticItem]

    def __len__(self) -> int:
        return len(self.items)

    def load(self, index: int) -> TrainingSample:
        item = self.items[index]
        image = read_image(Path(item.image_path))
        depth_m = read_depth(Path(item.depth_path))
        disparity, valid = disparity_from_depth(depth_m)
        if not valid.any():
            raise DataError(f"{item.depth_path}: no pixel with a known depth", hint="render the set again")
        return TrainingSample(image, min_max(disparity, valid), valid)


@dataclass(frozen=True)
class LabelledPhoto:
    """One photograph and the file that holds its pseudo-label."""

    image_path: Path
    label_path: Path


@dataclass(frozen=True)
class PseudoLabelSource:
    """Photographs with the teacher's disparity, min-max 0..1 as stored; every pixel counts."""

    photos: Sequence[LabelledPhoto]

    def __len__(self) -> int:
        return len(self.photos)

    def load(self, index: int) -> TrainingSample:
        photo = self.photos[index]
        disparity = read_label(photo.label_path)
        return TrainingSample(read_image(photo.image_path), disparity, np.ones(disparity.shape, np.bool_))


def read_depth(path: Path) -> NDArray[np.float32]:
    """(H, W) float32 metres, inf = sky. Raises DataError naming a file that is missing, damaged or of another shape."""
    return _read_array(path, "depth map").astype(np.float32, copy=False)


def read_label(path: Path) -> NDArray[np.float32]:
    """(h, w) float32 disparity 0..1 from a 16-bit PNG or a float16 .npy. Raises DataError naming a bad file."""
    if path.suffix == ".npy":
        return _read_array(path, "pseudo-label").astype(np.float32)
    data = np.fromfile(path, np.uint8) if path.is_file() else np.empty(0, np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise DataError(f"{path}: not a 16-bit grey pseudo-label", hint="delete it and label again")
    return np.asarray(pixels / np.float32(PNG_MAX), np.float32)


def _read_array(path: Path, what: str) -> NDArray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a readable {what} ({error})", hint="delete it and make it again") from error
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{path}: expected a {what} of shape (H, W), got {array.dtype} {array.shape}")
    return np.asarray(array)
