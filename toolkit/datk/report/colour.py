"""Depth maps as pictures: near is red, far is blue, whichever way the numbers point."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import DepthKind
from datk.errors import DataError

NO_VALUE = (128, 128, 128)
"""Colour of NaN: grey, which is in neither colour map."""
_COLOUR_MAP = {"nearer": "Spectral_r", "farther": "Spectral"}
"""By what a larger value means."""
_ERROR_MAP = "magma"
_MIDDLE = 127


@cache
def _table(name: str) -> NDArray[np.uint8]:
    """(256, 3) uint8 RGB of a matplotlib colour map, cut to 8 bits as the official code does."""
    from matplotlib import colormaps

    return (colormaps[name](np.arange(256))[:, :3] * 255).astype(np.uint8)


def _as_float_map(depth: NDArray[Any]) -> NDArray[np.float64]:
    if depth.ndim != 2 or depth.size == 0:
        raise DataError(f"expected a depth map of shape (H, W), got {depth.shape}")
    return depth.astype(np.float64)


def _paint(levels: NDArray[np.float64], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """levels: (H, W) in 0..255, NaN allowed (painted NO_VALUE). Returns (H, W, 3) uint8."""
    missing = np.isnan(levels)
    picture = table[np.where(missing, 0.0, levels).astype(np.uint8)]  # (H, W, 3)
    picture[missing] = NO_VALUE
    return picture


def colourise(depth: NDArray[Any], kind: DepthKind) -> NDArray[np.uint8]:
    """Colour a depth map, stretched between its own smallest and largest finite value.

    depth: (H, W) of the quantity `kind` names. Returns (H, W, 3) uint8 RGB: Spectral_r for relative
    disparity, Spectral for metric depth, as in the official run.py, so that near is red in both.
    +inf (sky, in metric depth) takes the upper end of the map and -inf the lower; NaN is grey; a map
    whose finite values are all equal takes the middle colour (the official code divides 0 by 0 there).
    Raises DataError unless depth is a non-empty 2-D array.
    """
    values = _as_float_map(depth)
    finite = np.isfinite(values)
    low = values[finite].min() if finite.any() else 0.0
    high = values[finite].max() if finite.any() else 0.0
    levels = np.full(values.shape, float(_MIDDLE))
    if high > low:
        # halves, so that the span of two huge values of opposite sign stays finite
        levels[finite] = (values[finite] / 2 - low / 2) / (high / 2 - low / 2) * 255
    levels[np.isposinf(values)] = 255.0
    levels[np.isneginf(values)] = 0.0
    levels[np.isnan(values)] = np.nan
    return _paint(levels, _table(_COLOUR_MAP[kind.larger_is]))


def colourise_error(error: NDArray[Any], *, full_scale: float) -> NDArray[np.uint8]:
    """Colour absolute errors from 0 (black) to full_scale and above (pale yellow); NaN and inf stay visible.

    error: (H, W) >= 0 in any unit; full_scale > 0 in the same unit. Returns (H, W, 3) uint8 RGB (magma).
    Several maps painted with one full_scale can be compared by eye. NaN is grey, inf the upper end.
    Raises DataError unless error is a non-empty 2-D array and full_scale is positive.
    """
    if not full_scale > 0:
        raise DataError(f"expected a full scale above 0, got {full_scale}")
    values = _as_float_map(error)
    return _paint(np.clip(values / full_scale, 0.0, 1.0) * 255, _table(_ERROR_MAP))
