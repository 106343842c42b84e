"""Scale-and-shift fits between affine-invariant disparity maps. NumPy, float64, closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Float64 = NDArray[np.float64]

CONSTANT_REL = 1e-6
"""A map whose standard deviation is below this share of its largest magnitude counts as constant."""


def fit_scale_shift(pred: Array, target: Array, mask: NDArray[np.bool_] | None = None) -> tuple[Float64, Float64]:
    """Least-squares (scale, shift) with scale * pred + shift closest to target over mask.

    pred, target: (H, W) or (B, H, W) disparity, larger is nearer.  mask: same shape, bool; None = all pixels.
    Returns float64 arrays of shape () or (B,). An image with fewer than 2 valid pixels, a constant prediction or a
    non-finite value under the mask gets (nan, nan). The scale may come out negative: the caller judges the sign.
    Closed form of Ranftl et al. 2020 (MiDaS), eq. 4.
    """
    p, t, m = _batched(pred, target, mask)
    fits = [_least_squares(p[i][m[i]], t[i][m[i]]) for i in range(len(p))]
    return _unbatched(fits, single=pred.ndim == 2)


def fit_median_mad(pred: Array, target: Array, mask: NDArray[np.bool_] | None = None) -> tuple[Float64, Float64]:
    """Robust (scale, shift) that gives pred the median and mean absolute deviation of target; scale >= 0.

    Shapes and undefined cases as in fit_scale_shift. Normalisation of Ranftl et al. 2020, eq. 5 (MAE variant).
    """
    p, t, m = _batched(pred, target, mask)
    fits = [_median_mad(p[i][m[i]], t[i][m[i]]) for i in range(len(p))]
    return _unbatched(fits, single=pred.ndim == 2)


def apply_scale_shift(pred: Array, scale: Float64, shift: Float64) -> Float64:
    """scale * pred + shift, (H, W) or (B, H, W) float64."""
    extra = (1,) * (pred.ndim - np.ndim(scale)) if np.ndim(scale) else ()
    return np.asarray(pred, np.float64) * np.reshape(scale, (*np.shape(scale), *extra)) + np.reshape(
        shift, (*np.shape(shift), *extra)
    )


def is_constant(values: Array) -> bool:
    """True when the values do not vary beyond rounding (CONSTANT_REL), or when there are fewer than two."""
    if values.size < 2:
        return True
    v = np.asarray(values, np.float64)
    return bool(v.std() <= CONSTANT_REL * np.abs(v).max())


def _least_squares(p: Float64, t: Float64) -> tuple[float, float]:
    if is_constant(p) or not (np.isfinite(p).all() and np.isfinite(t).all()):
        return float("nan"), float("nan")
    p_mean, t_mean = p.mean(), t.mean()
    centred = p - p_mean
    scale = float(centred @ (t - t_mean) / (centred @ centred))
    return scale, float(t_mean - scale * p_mean)


def _median_mad(p: Float64, t: Float64) -> tuple[float, float]:
    if is_constant(p) or not (np.isfinite(p).all() and np.isfinite(t).all()):
        return float("nan"), float("nan")
    p_mid, t_mid = np.median(p), np.median(t)
    scale = float(np.abs(t - t_mid).mean() / np.abs(p - p_mid).mean())
    return scale, float(t_mid - scale * p_mid)


def _batched(pred: Array, target: Array, mask: NDArray[np.bool_] | None) -> tuple[Float64, Float64, NDArray[np.bool_]]:
    if pred.shape != target.shape or (mask is not None and mask.shape != pred.shape) or pred.ndim not in (2, 3):
        shapes = (pred.shape, target.shape, None if mask is None else mask.shape)
        raise ValueError(f"pred, target and mask must share one (H, W) or (B, H, W) shape, got {shapes}")
    m = np.ones(pred.shape, bool) if mask is None else mask
    batch = pred.shape if pred.ndim == 3 else (1, *pred.shape)
    return (
        np.asarray(pred, np.float64).reshape(batch),
        np.asarray(target, np.float64).reshape(batch),
        np.asarray(m, bool).reshape(batch),
    )


def _unbatched(fits: list[tuple[float, float]], *, single: bool) -> tuple[Float64, Float64]:
    pairs = np.array(fits, np.float64).reshape(len(fits), 2)
    return (pairs[0, 0], pairs[0, 1]) if single else (pairs[:, 0], pairs[:, 1])
