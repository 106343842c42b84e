"""How good a pseudo-label can be at all: figures of one map that need no ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_RANGE_REL = 1e-5
"""max - min below this share of the largest magnitude is float32 rounding, not relief: the map is constant."""
MIN_SPREAD = 0.02
"""Below it, 96 % of the pixels share 2 % of the range: a few outliers made the scale."""
MAX_SATURATED = 0.95
"""Above it, nearly every pixel sits at an end of the range: two flat levels, or a sky without anything in it."""
END_WIDTH = 1 / 1024
"""How near to an end of the range, as a share of it, a pixel counts as saturated."""


@dataclass(frozen=True)
class LabelQuality:
    """Figures of one map; none depends on its unknown scale and shift."""

    spread: float
    """(98th - 2nd percentile) / (max - min), 0..1; 0 for a constant or non-finite map."""
    saturated_fraction: float
    """Share of pixels at (almost) the smallest or the largest value, 0..1; sky at disparity 0 counts."""
    degenerate: bool
    """True when nothing can be learnt, calibrated or judged with this map."""
    reason: str
    """Why it is degenerate, in words; empty when it is not."""


def label_quality(label: NDArray) -> LabelQuality:
    """Judge one label by itself.

    label: (H, W) disparity of any scale and shift, float or integer (a stored 16-bit label as well as a raw map).
    Raises ValueError for an array that is not two-dimensional or is empty.
    """
    if label.ndim != 2 or label.size == 0:
        raise ValueError(f"expected a map of shape (H, W), got {label.shape}")
    values = np.asarray(label, np.float64).ravel()
    bad = int((~np.isfinite(values)).sum())
    if bad:
        return LabelQuality(0.0, 0.0, True, f"{bad} of {values.size} values are not finite")
    low, high = float(values.min()), float(values.max())
    if high - low <= MIN_RANGE_REL * max(abs(low), abs(high)):
        return LabelQuality(0.0, 1.0, True, f"constant at {high:.4g}")
    unit = (values - low) / (high - low)
    second, last = np.percentile(unit, (2, 98))
    spread, saturated = float(last - second), float(((unit <= END_WIDTH) | (unit >= 1 - END_WIDTH)).mean())
    if spread < MIN_SPREAD:
        reason = f"96 % of the pixels lie within {spread:.2%} of the range"
    elif saturated > MAX_SATURATED:
        reason = f"{saturated:.1%} of the pixels are at an end of the range"
    else:
        reason = ""
    return LabelQuality(spread, saturated, bool(reason), reason)
