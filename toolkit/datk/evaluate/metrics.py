"""Dense depth metrics. NumPy, float64, one image at a time; averaging over images is the caller's business.

Protocol for affine-invariant disparity (Depth Anything V1/V2, MiDaS): fit scale and shift to 1/depth in disparity by
least squares, clamp at 1/cap, invert, then score in depth. Metric depth is scored as it is, never aligned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datk.depth.align import fit_median_mad, fit_scale_shift, is_constant
from datk.depth.io_spec import DepthKind
from datk.errors import UsageError

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Align = Literal["least_squares", "median_mad"]

DELTA_BASE = 1.25
ORDINAL_GAP = 0.05
"""Share of the reference's range by which two pixels must differ before their order is asked for."""
NEAREST = 1e-3
"""Predicted depth is clamped here before ratios and logarithms, in metres."""
MIN_PIXELS = 10
"""Images with fewer valid pixels are not scored (the official evaluation's rule)."""
REFERENCE_CAP = 20.0
"""A disparity reference without a unit is stretched so that its farthest pixel lies this many times as far as its
nearest before depths are compared: AbsRel and delta1 need a ratio, which affine-invariant disparity does not have."""


@dataclass(frozen=True, kw_only=True)
class DenseScore:
    """Metrics of one image. nan means undefined, and `undefined` says why (else it is empty)."""

    abs_rel: float
    delta1: float
    delta2: float
    delta3: float
    sq_rel: float
    """In the unit of the target depth."""
    rmse: float
    """In the unit of the target depth (metres, or multiples of the nearest distance in score_reference)."""
    rmse_log: float
    log10: float
    silog: float
    correlation: float
    """Pearson, disparity against disparity or depth against depth, before any alignment; keeps its sign."""
    scale: float
    shift: float
    n_pixels: int
    undefined: str = ""


def abs_rel(pred: Array, target: Array) -> float:
    """Mean |pred - target| / target over two 1-D arrays of positive depths. Eigen et al. 2014."""
    return float(np.mean(np.abs(pred - target) / target))


def delta(pred: Array, target: Array, power: int = 1) -> float:
    """Share of pixels with max(pred/target, target/pred) < 1.25**power. Eigen et al. 2014."""
    return float(np.mean(np.maximum(pred / target, target / pred) < DELTA_BASE**power))


def rmse(pred: Array, target: Array) -> float:
    """Root mean squared error, in the arrays' own unit."""
    return float(np.sqrt(np.mean((pred - target) ** 2)))


def sq_rel(pred: Array, target: Array) -> float:
    """Mean (pred - target)**2 / target, in the arrays' own unit. Eigen et al. 2014."""
    return float(np.mean((pred - target) ** 2 / target))


def rmse_log(pred: Array, target: Array) -> float:
    """Root mean squared (ln pred - ln target). Eigen et al. 2014."""
    return float(np.sqrt(np.mean((np.log(pred) - np.log(target)) ** 2)))


def log10_error(pred: Array, target: Array) -> float:
    """Mean |log10 pred - log10 target|."""
    return float(np.mean(np.abs(np.log10(pred) - np.log10(target))))


def silog(pred: Array, target: Array) -> float:
    """sqrt(mean e**2 - 0.5 mean(e)**2), e = ln pred - ln target; not times 100. Eigen et al. 2014, lambda 0.5."""
    error = np.log(pred) - np.log(target)
    return float(np.sqrt(max(0.0, np.mean(error**2) - 0.5 * np.mean(error) ** 2)))


def correlation(a: Array, b: Array, mask: Mask | None = None) -> float:
    """Pearson correlation over mask, in float64. nan when either side is constant, non-finite or under 2 pixels."""
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    x, y = _masked(a, mask), _masked(b, mask)
    if x.size < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()) or is_constant(x) or is_constant(y):
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x @ y) / math.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def score_depth(
    pred: Array,
    target_depth_m: Array,
    mask: Mask | None = None,
    *,
    kind: DepthKind,
    align: Align | None = None,
    cap_m: float | None = None,
) -> DenseScore:
    """Score one map against ground-truth depth.

    pred: (H, W), quantity and sign by `kind`.  target_depth_m: (H, W) metres; inf, nan and <= 0 are never scored.
    align: how affine-invariant disparity is fitted (default least_squares); must be None for metric depth.
    cap_m: aligned depth beyond it is clamped, targets beyond it are left out; default the largest target.
    A best fit with negative scale means the sign is wrong: the scale is held at 0, so a flipped map scores as badly
    as a constant one and never better. Raises UsageError for a kind or alignment it cannot judge.
    """
    _check_judgeable(kind, align)
    p, t, undefined = _valid_pixels(pred, target_depth_m, mask, cap_m)
    if undefined:
        return _undefined(t.size, undefined)
    cap = cap_m if cap_m is not None else float(t.max())
    if kind is DepthKind.DEPTH_METRIC_M:
        return _score(np.clip(p, NEAREST, cap), t, correlation(p, t), 1.0, 0.0)
    return _score_disparity(p, 1.0 / t, 1.0 / cap, align or "least_squares")


def score_median_scaled(
    pred: Array, target_depth_m: Array, mask: Mask | None = None, *, cap_m: float | None = None
) -> DenseScore:
    """Score metric depth after one factor a map, median(target) / median(pred) over what is scored (Zhou et al. 2017).

    Arguments as in score_depth. Tells how good a map is but for its scale; `scale` is the factor.
    """
    p, t, undefined = _valid_pixels(pred, target_depth_m, mask, cap_m)
    if undefined:
        return _undefined(t.size, undefined)
    middle = float(np.median(p))
    if not middle > 0:
        return _undefined(p.size, "the prediction's median is not positive")
    scale = float(np.median(t)) / middle
    cap = cap_m if cap_m is not None else float(t.max())
    return _score(np.clip(scale * p, NEAREST, cap), t, correlation(p, t), scale, 0.0)


def score_affine_depth(
    pred: Array, target_depth_m: Array, mask: Mask | None = None, *, cap_m: float | None = None
) -> DenseScore:
    """Score depth known up to scale and shift, fitted to the target in depth by least squares (Marigold's protocol).

    Arguments as in score_depth; a fit with negative scale is held at 0 as there.
    """
    p, t, undefined = _valid_pixels(pred, target_depth_m, mask, cap_m)
    if undefined:
        return _undefined(t.size, undefined)
    fitted = fit_scale_shift(p[None], t[None])
    scale, shift = float(fitted[0]), float(fitted[1])
    if not math.isfinite(scale):
        return _undefined(p.size, "the output is constant")
    r = correlation(p, t)
    if scale <= 0:
        scale, shift = 0.0, float(t.mean())
    cap = cap_m if cap_m is not None else float(t.max())
    return _score(np.clip(scale * p + shift, NEAREST, cap), t, r, scale, shift)


def _valid_pixels(
    pred: Array, target_depth_m: Array, mask: Mask | None, cap_m: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """(prediction, target) where the target can be scored, 1-D float64, and why they cannot (else empty)."""
    target = np.asarray(target_depth_m, np.float64)
    valid = np.isfinite(target) & (target > 0)
    if mask is not None:
        valid &= mask
    if cap_m is not None:
        valid &= target <= cap_m
    p, t = np.asarray(pred, np.float64)[valid], target[valid]
    if t.size < MIN_PIXELS:
        return p, t, f"fewer than {MIN_PIXELS} valid pixels"
    return p, t, "" if np.isfinite(p).all() else "the prediction holds nan or infinity"


def score_reference(candidate: Array, reference: Array, mask: Mask | None = None, *, kind: DepthKind) -> DenseScore:
    """Score a map against another net's map of the same kind, both (H, W), over mask (None = all pixels).

    Disparity: the reference is mapped linearly to [1/REFERENCE_CAP, 1], the candidate fitted to it by least squares,
    both inverted. Metric depth: compared in metres as it is. nan with a reason when either map is constant.
    """
    _check_judgeable(kind, None)
    p, t = _masked(candidate, mask), _masked(reference, mask)
    if p.size < MIN_PIXELS:
        return _undefined(p.size, f"fewer than {MIN_PIXELS} valid pixels")
    if not np.isfinite(p).all():
        return _undefined(p.size, "the output holds nan or infinity")
    if not np.isfinite(t).all():
        return _undefined(p.size, "the reference holds nan or infinity")
    if is_constant(p):
        return _undefined(p.size, "the output is constant")
    if is_constant(t):
        return _undefined(p.size, "the reference is constant")
    if kind is DepthKind.DEPTH_METRIC_M:
        return _score(np.maximum(p, NEAREST), np.maximum(t, NEAREST), correlation(p, t), 1.0, 0.0)
    return _score_disparity(p, _stretched(t), 1.0 / REFERENCE_CAP, "least_squares")


def reference_depths(
    candidate: Array, reference: Array, score: DenseScore, *, kind: DepthKind
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two (H, W) maps of positive depths that score_reference compared without a mask, in its unit.

    score: what it returned; one that is undefined has no such maps. Raises ValueError then.
    """
    if score.undefined:
        raise ValueError(f"no depths to compare: {score.undefined}")
    p, t = np.asarray(candidate, np.float64), np.asarray(reference, np.float64)
    if kind is DepthKind.DEPTH_METRIC_M:
        return np.maximum(p, NEAREST), np.maximum(t, NEAREST)
    return 1.0 / np.maximum(score.scale * p + score.shift, 1.0 / REFERENCE_CAP), 1.0 / _stretched(t)


def _stretched(t: Array) -> NDArray[np.float64]:
    """A disparity reference without a unit, mapped linearly to [1/REFERENCE_CAP, 1]."""
    low = 1.0 / REFERENCE_CAP
    return np.asarray(low + (1.0 - low) * (t - t.min()) / (t.max() - t.min()), np.float64)


def _masked(values: Array, mask: Mask | None) -> Array:
    flat = np.asarray(values, np.float64)
    return flat.ravel() if mask is None else flat[mask]


def ordinal_agreement(
    candidate: Array, reference: Array, *, seed: int = 0, pairs: int = 2000, min_gap: float = ORDINAL_GAP
) -> float:
    """Share of random pixel pairs that the candidate puts in the reference's order. Both maps of one kind and shape.

    Only pairs whose reference values differ by more than min_gap of the reference's range count; a tie or a
    non-finite value of the candidate is wrong. nan when the reference is constant, not finite or yields no such pair.
    Depends on neither map's scale and shift, only on the sign.
    """
    if candidate.shape != reference.shape:
        raise ValueError(f"shapes differ: {candidate.shape} and {reference.shape}")
    c, r = np.asarray(candidate, np.float64).ravel(), np.asarray(reference, np.float64).ravel()
    if r.size < 2 or not np.isfinite(r).all() or is_constant(r):
        return math.nan
    first, second = np.random.default_rng(seed).integers(0, r.size, (2, pairs))
    gap = r[first] - r[second]
    clear = np.abs(gap) > min_gap * np.ptp(r)
    if not clear.any():
        return math.nan
    with np.errstate(invalid="ignore"):
        agree = (c[first] - c[second]) * np.sign(gap) > 0
    return float(agree[clear].mean())


def _score_disparity(p: Array, target_disparity: Array, floor: float, align: Align) -> DenseScore:
    fit = fit_scale_shift if align == "least_squares" else fit_median_mad
    fitted = fit(p[None], target_disparity[None])
    scale, shift = float(fitted[0]), float(fitted[1])
    if not math.isfinite(scale):
        return _undefined(p.size, "the output is constant")
    r = correlation(p, target_disparity)
    if scale <= 0 or (align == "median_mad" and r < 0):
        scale, shift = 0.0, float(target_disparity.mean())
    aligned = np.maximum(scale * p + shift, floor)
    return _score(1.0 / aligned, 1.0 / target_disparity, r, scale, shift)


def _score(p: Array, t: Array, r: float, scale: float, shift: float) -> DenseScore:
    return DenseScore(
        abs_rel=abs_rel(p, t),
        delta1=delta(p, t, 1),
        delta2=delta(p, t, 2),
        delta3=delta(p, t, 3),
        sq_rel=sq_rel(p, t),
        rmse=rmse(p, t),
        rmse_log=rmse_log(p, t),
        log10=log10_error(p, t),
        silog=silog(p, t),
        correlation=r,
        scale=scale,
        shift=shift,
        n_pixels=p.size,
    )


def _undefined(n_pixels: int, reason: str) -> DenseScore:
    nan = math.nan
    return DenseScore(
        abs_rel=nan, delta1=nan, delta2=nan, delta3=nan, sq_rel=nan, rmse=nan, rmse_log=nan, log10=nan,
        silog=nan, correlation=nan, scale=nan, shift=nan, n_pixels=n_pixels, undefined=reason,
    )  # fmt: skip


def _check_judgeable(kind: DepthKind, align: Align | None) -> None:
    judged = (DepthKind.DISPARITY_AFFINE_INVARIANT, DepthKind.DEPTH_METRIC_M)
    if kind not in judged:
        raise UsageError(f"dense metrics cannot judge '{kind}'", hint=f"they judge: {', '.join(judged)}")
    if kind is DepthKind.DEPTH_METRIC_M and align is not None:
        raise UsageError(
            f"metric depth must not be aligned (asked for {align}): its scale is what is judged",
            hint="leave align out, or name the kind disparity_affine_invariant",
        )
