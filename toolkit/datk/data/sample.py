"""One labelled example: an image and what is known about its depth, with the quantity in the field's name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datk.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image with exactly one kind of ground truth. Raises DataError when the arrays do not fit together."""

    name: str
    image: NDArray[np.uint8]
    """(H, W, 3) RGB, 0..255."""
    depth_m: NDArray[np.float32] | None = None
    """(H, W) depth along the optical axis in metres; inf = sky, <= 0 or nan = unknown."""
    disparity_px: NDArray[np.float32] | None = None
    """(H, W) stereo disparity in pixels of this image; larger is nearer; <= 0 or nan = unknown."""
    scene_kind: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise DataError(f"{self.name}: image is {self.image.dtype} {self.image.shape}, expected uint8 (H, W, 3)")
        truths = [t for t in (self.depth_m, self.disparity_px) if t is not None]
        if len(truths) != 1:
            raise DataError(f"{self.name}: expected either depth_m or disparity_px, got {len(truths)} of them")
        if truths[0].shape != self.image.shape[:2]:
            raise DataError(
                f"{self.name}: ground truth is {truths[0].shape}, the image is {self.image.shape[:2]}",
                hint="depth maps must have the image's own height and width",
            )

    def inverse_depth(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(H, W) inverse depth (1/m from depth_m, pixels from disparity_px; larger is nearer) and its valid mask."""
        if self.depth_m is not None:
            return disparity_from_depth(self.depth_m)
        assert self.disparity_px is not None
        valid = np.isfinite(self.disparity_px) & (self.disparity_px > 0)
        return np.where(valid, self.disparity_px, 0).astype(np.float32), valid


def disparity_from_depth(depth_m: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Inverse depth in 1/m and its valid mask, both of depth_m's shape.

    depth_m: metres along the optical axis. Sky (+inf) becomes disparity 0 and is valid: it is known to be farthest.
    nan, -inf, 0 and negative values are unknown: disparity 0, not valid.
    """
    valid = depth_m > 0
    safe = np.where(valid, depth_m, 1.0).astype(np.float64)
    return np.where(valid, 1.0 / safe, 0.0).astype(np.float32), np.asarray(valid)
