"""Weights, forms and guards of the training losses. The defaults are Depth Anything V2's; every other value is a key.

Where the sources contradict each other, the default is the paper's text and the other reading is one key away:
`alignment` (the paper's median against MiDaS' least squares), `trim`, `feature_margin_on`, `feature_mean_over`. Beyond
the paper: `alignment: hierarchical` or `none`, `outlier_weight`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from datk.config.section import Fraction, StrictSection


class LossSection(StrictSection):
    """Weights and guards of the training losses."""

    ssi_weight: float = Field(default=1.0, ge=0)
    """Weight of the scale-and-shift-invariant loss (no unit)."""
    alignment: Literal["median", "least_squares", "hierarchical", "none"] = "median"
    """How prediction and target are made comparable. median: both by median and mean deviation, mean difference
    (Depth Anything V1 section 3.1). least_squares: the prediction laid onto the target, half the mean squared
    difference (MiDaS' code, to which V2's first author points; blind to the sign of the map). hierarchical: the median
    form within several contexts (Distill-Any-Depth's hybrid). none: mean difference of the maps as they are."""
    hierarchy_parts: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(default=(1, 2, 4), min_length=1)
    """Levels of alignment: hierarchical; a level of n cuts the map into n contexts (space: n x n tiles)."""
    hierarchy_contexts: Literal["range", "rank", "space"] = "range"
    """What is cut: the target's range into equal parts, its ranking, or the picture into tiles."""
    trim: Fraction = 0.0
    """Fraction of an image's pixels whose difference is largest that the scale-and-shift-invariant loss leaves out
    (MiDaS section 5; 0.2 there). Per image; the gradient loss keeps them, unlike with top_loss_fraction."""
    gradient_weight: float = Field(default=2.0, ge=0)
    """Weight of the multi-scale gradient matching loss (no unit); the paper's ratio is 1:2."""
    gradient_scales: int = Field(default=4, ge=1, le=6)
    """Number of gradient scales; strides 1, 2, 4, 8 ... pixels."""
    gradient_ramp: Fraction = 0.0
    """Fraction of the steps over which the gradient weight grows linearly from 0 (from-scratch training needs it)."""
    scale_floor: float = Field(default=1e-6, gt=0)
    """Lower bound of the deviation a map is divided by; 1e-2 keeps from-scratch training calm."""
    output: Literal["relu", "raw"] = "relu"
    """What losses see: the map behind the final ReLU, or before it. From scratch take raw: a ReLU that dies at the
    start has no gradient. After raw training the last bias is lifted until the ReLU cuts (almost) nothing."""
    anchor_weight: float = Field(default=0.0, ge=0)
    """Weight of a plain L1 term to the 0..1 target, which fixes the scale and shift the other losses leave free."""
    anchor_offset: Fraction = 0.1
    """Where the anchor puts the farthest point: target = offset + (1 - offset) * disparity, clear of the final ReLU."""
    top_loss_fraction: Fraction = 0.0
    """Fraction of an image's pixels with the largest loss that is ignored; 0.1 for students in the paper."""
    feature_weight: float = Field(default=1.0, ge=0)
    """Weight of the feature alignment loss (no unit; not published, 1 is this project's choice)."""
    feature_margin: float = Field(default=0.85, gt=-1, le=1)
    """Tokens whose cosine with the reference already exceeds this are left out."""
    feature_margin_on: Literal["cosine", "distance"] = "cosine"
    """distance: tokens whose 1 - cosine is below feature_margin are left out, as V1's first author puts it (0.15)."""
    feature_mean_over: Literal["kept", "all"] = "kept"
    """Divide the feature loss by the tokens left, or by all (then it fades as the tokens come within the margin)."""
    outlier_weight: float = Field(default=0.0, ge=0)
    """Weight of a penalty on heavy tails of the encoder's residual stream, so that the student stays quantisable."""
    outlier_form: Literal["kurtosis", "range"] = "kurtosis"
    """kurtosis: fourth moment over squared variance. range: largest magnitude over root mean square."""
    outlier_limit: float = Field(default=3.0, gt=0)
    """Value from which on it costs; 3 is the kurtosis of a normal distribution."""
    log_ranges: bool = False
    """Log range, crest and kurtosis of the residual stream at every step, with or without the penalty."""
