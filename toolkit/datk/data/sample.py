"""One labelled example, with the quantity in the field's name, and the one way from it to the training target."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from datk.errors import DataError

_TINY = float(np.finfo(np.float32).tiny)
"""The smallest depth whose inverse is surely finite in float32."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image with exactly one kind of ground truth. Raises DataError when the arrays do not fit together.

    Depth is along the optical axis, never along the ray. What a pixel is follows from its value alone: `valid` and
    `sky` are derived, so they cannot disagree with the map.
    """

    name: str
    image: NDArray[np.uint8]
    """(H, W, 3) RGB, 0..255."""
    depth_m: NDArray[np.float32] | None = None
    """(H, W) metres; inf = sky, <= 0 or nan = unknown."""
    depth_unscaled: NDArray[np.float32] | None = None
    """(H, W) as depth_m, in a unit that is the scene's own (BlendedMVS): no metric training, no metric figures."""
    disparity_px: NDArray[np.float32] | None = None
    """(H, W) stereo disparity in pixels of this image; larger is nearer; <= 0 or nan = unknown."""
    disparity_relative: NDArray[np.float32] | None = None
    """(H, W) inverse depth up to an unknown scale and shift; larger is nearer; nan = unknown."""
    scene_kind: str = ""
    scene: str = ""
    split: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise DataError(f"{self.name}: image is {self.image.dtype} {self.image.shape}, expected uint8 (H, W, 3)")
        truths = [t for t in (self.depth, self.disparity_px, self.disparity_relative) if t is not None]
        if len(truths) != 1 or (self.depth_m is not None and self.depth_unscaled is not None):
            raise DataError(f"{self.name}: expected either depth_m or disparity_px, got {self._count()} of them")
        if truths[0].shape != self.image.shape[:2]:
            raise DataError(
                f"{self.name}: ground truth is {truths[0].shape}, the image is {self.image.shape[:2]}",
                hint="depth maps must have the image's own height and width",
            )

    def _count(self) -> int:
        truths = (self.depth_m, self.depth_unscaled, self.disparity_px, self.disparity_relative)
        return sum(t is not None for t in truths)

    @property
    def depth(self) -> NDArray[np.float32] | None:
        """Depth in metres or in the scene's unit, whichever there is."""
        return self.depth_m if self.depth_m is not None else self.depth_unscaled

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """(H, W): what is known, sky included."""
        return self.inverse_depth()[1]

    @cached_property
    def sky(self) -> NDArray[np.bool_]:
        """(H, W): known to be at infinity. A disparity map of a data set never marks it."""
        if self.depth is None:
            return np.zeros(self.image.shape[:2], np.bool_)
        return np.asarray(np.isposinf(self.depth))

    def inverse_depth(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(H, W) inverse depth (1/m, 1/unit, pixels or relative; larger is nearer) and its valid mask; 0 if unknown."""
        if self.depth is not None:
            return disparity_from_depth(self.depth)
        if self.disparity_px is not None:
            valid = np.isfinite(self.disparity_px) & (self.disparity_px > 0)
            return np.where(valid, self.disparity_px, 0).astype(np.float32), valid
        assert self.disparity_relative is not None
        valid = np.isfinite(self.disparity_relative)
        return np.where(valid, self.disparity_relative, 0).astype(np.float32), valid

    def target(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """(H, W) disparity, min-max 0..1 over this map's valid pixels, and the valid mask (Depth Anything V1, 3.1).

        Sky is 0 and valid: it is known to be farthest. Raises DataError when no pixel is known.
        """
        disparity, valid = self.inverse_depth()
        if not valid.any():
            raise DataError(f"{self.name}: no pixel with a known depth", hint="leave this image out")
        return min_max(disparity, valid), valid


def disparity_from_depth(depth_m: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Inverse depth in 1/m and its valid mask, both of depth_m's shape.

    depth_m: metres along the optical axis. Sky (+inf) becomes disparity 0 and is valid: it is known to be farthest.
    nan, -inf, 0 and negative values are unknown: disparity 0, not valid; so is what is too small for a finite inverse
    (a damaged float), which would spoil the whole map's min-max.
    """
    valid = np.asarray(depth_m > _TINY)
    out = np.zeros(depth_m.shape, np.result_type(depth_m.dtype, np.float32))
    np.divide(1, depth_m, out=out, where=valid)  # of float32 the quotient is the correctly rounded one
    return out.astype(np.float32, copy=False), valid


def min_max(values: NDArray[np.floating], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Map values linearly so that the valid ones span 0..1; 0 where invalid or when all valid ones are equal."""
    if not valid.any():
        return np.zeros(values.shape, np.float32)
    low = float(np.where(valid, values, np.inf).min())
    high = float(np.where(valid, values, -np.inf).max())
    if not high > low:
        return np.zeros(values.shape, np.float32)
    scaled = values - low
    scaled /= high - low
    scaled[~valid] = 0
    return np.asarray(scaled, np.float32)
