"""The rules a dense benchmark goes by, and the sentence that stands beside every figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import DepthKind
from datk.evaluate.metrics import MIN_PIXELS

Crop = Literal["none", "garg", "eigen_nyu"]
Variant = Literal["aligned", "metric", "median_scaled"]

GARG = (0.40810811, 0.99189189, 0.03594771, 0.96405229)
"""Garg et al. 2016: shares of height (from, to) and width (from, to)."""
EIGEN_NYU = (45, 471, 41, 601)
"""Rows (from, to) and columns (from, to) of the 480x640 picture, as the common NYU evaluations have it."""


@dataclass(frozen=True, kw_only=True)
class DenseProtocol:
    """Which pixels count, and how far depth goes."""

    nearest_m: float = 1e-3
    cap_m: float | None = None
    """Truth beyond it is left out, aligned predictions are clamped at it; None: the image's farthest scored truth."""
    clip_m: float | None = None
    """Truth beyond it is set to it and stays (sky as a far wall)."""
    crop: Crop = "none"
    drop_beyond_low: float | None = None
    """Truth beyond this many times the image's 1 % quantile is left out."""
    boundary: bool = False
    """Also score depth edges; needs truth without holes at the edges."""
    images: str = ""
    """Which images, in words."""
    expected: int | None = None
    """How many images the protocol names."""

    def mask(self, truth_m: NDArray[np.floating]) -> NDArray[np.bool_]:
        """(H, W) bool: pixels of a truth in metres (nan unknown, inf sky) that are scored."""
        depth = np.asarray(truth_m, np.float64)
        with np.errstate(invalid="ignore"):
            valid = np.isfinite(depth) & (depth > self.nearest_m)
            if self.cap_m is not None:
                valid &= depth <= self.cap_m
        if self.drop_beyond_low is not None and valid.any():
            valid &= depth <= self.drop_beyond_low * np.quantile(depth[valid], 0.01)
        return np.asarray(valid & self._inside(depth.shape))

    def clipped(self, truth_m: NDArray[np.floating]) -> NDArray[np.float64]:
        """The truth with everything beyond clip_m, sky included, set to clip_m."""
        depth = np.asarray(truth_m, np.float64)
        return depth if self.clip_m is None else np.where(depth > self.clip_m, self.clip_m, depth)

    def _inside(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        out = np.zeros(shape[:2], bool)
        height, width = shape[0], shape[1]
        if self.crop == "none":
            out[:] = True
        elif self.crop == "garg":
            top, bottom, left, right = GARG
            out[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = True
        else:
            top_px, bottom_px, left_px, right_px = EIGEN_NYU
            out[top_px:bottom_px, left_px:right_px] = True
        return out

    def words(self) -> str:
        """One line: images, mask, crop, cap."""
        crops = {
            "none": "no crop",
            "garg": "Garg crop (rows 40.8-99.2 %, columns 3.6-96.4 %)",
            "eigen_nyu": "Eigen crop [45:471, 41:601]",
        }
        cap = f"cap {self.cap_m:g} m" if self.cap_m is not None else "clamped at each image's farthest truth"
        parts = [self.images, f"truth > {self.nearest_m:g} m", cap, crops[self.crop]]
        if self.clip_m is not None:
            parts.insert(2, f"truth beyond {self.clip_m:g} m set to {self.clip_m:g} m and kept (sky included)")
        if self.drop_beyond_low is not None:
            parts.append(f"truth beyond {self.drop_beyond_low:g} times the 1 % quantile left out")
        parts.append(f"images with fewer than {MIN_PIXELS} such pixels not scored, mean over images")
        return "; ".join(p for p in parts if p)


def alignment_words(kind: DepthKind, variant: Variant) -> str:
    """How the prediction is brought to the truth's scale."""
    if variant == "metric":
        return "metres as predicted, not aligned"
    if variant == "median_scaled":
        return "metres times median(truth) / median(prediction) of each image"
    if kind is DepthKind.DEPTH_AFFINE_INVARIANT:
        return "scale and shift of each image by least squares in depth"
    how = "1 / predicted depth" if kind is DepthKind.DEPTH_METRIC_M else "prediction"
    return f"scale and shift of each image by least squares in disparity ({how} to 1 / truth), then inverted"


def variants_of(kind: DepthKind) -> tuple[Variant, ...]:
    """What a map of that kind can be judged as; "aligned" is what relative and metric nets share."""
    return ("aligned", "metric", "median_scaled") if kind is DepthKind.DEPTH_METRIC_M else ("aligned",)
