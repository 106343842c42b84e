"""Are depth edges where they should be? Scale-invariant boundary F1 and recall, after Depth Pro.

Bochkovskii et al. 2024, section on sharp boundary tracing: between neighbouring pixels i and j there is an occluding
contour when d(j) / d(i) > 1 + t; precision and recall over all neighbour pairs, F1 averaged over t from 5 to 25 %
with weights that grow with t. As MoGe's evaluation, without the thinning of predicted edges in the authors' program.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

THRESHOLDS = tuple(float(t) for t in np.linspace(0.05, 0.25, 10))


@dataclass(frozen=True)
class Contours:
    """How the contours of a map agree with those of the truth, each 0..1 or nan."""

    f1: float
    recall: float
    """Share of the true contours that are there."""


def contours(pred_depth: NDArray[np.floating], true_depth: NDArray[np.floating], valid: Mask | None = None) -> Contours:
    """F1 and recall of the contours of two positive (H, W) depth maps; nan when the truth has no contour at all.

    Ratios of depths: the prediction must be aligned first, a common factor alone changes nothing. Only neighbours that
    are both valid count.
    """
    if pred_depth.shape != true_depth.shape:
        raise ValueError(f"shapes differ: {pred_depth.shape} and {true_depth.shape}")
    ok = np.ones(true_depth.shape, bool) if valid is None else valid
    hits, said, there = (np.zeros(len(THRESHOLDS)) for _ in range(3))
    for (p0, p1), (t0, t1), (v0, v1) in zip(
        _neighbours(np.asarray(pred_depth, np.float64)),
        _neighbours(np.asarray(true_depth, np.float64)),
        _neighbours(ok),
        strict=True,
    ):
        both = v0 & v1
        predicted, true = p1[both] / p0[both], t1[both] / t0[both]
        for k, t in enumerate(THRESHOLDS):
            a, b = predicted > 1 + t, true > 1 + t
            hits[k] += np.count_nonzero(a & b)
            said[k] += np.count_nonzero(a)
            there[k] += np.count_nonzero(b)
    if there[0] == 0:
        return Contours(math.nan, math.nan)
    scores = np.divide(2 * hits, said + there, out=np.zeros_like(hits), where=said + there > 0)
    found = np.divide(hits, there, out=np.zeros_like(hits), where=there > 0)
    return Contours(_weighted(scores, there), _weighted(found, there))


def boundary_f1(pred_depth: NDArray[np.floating], true_depth: NDArray[np.floating], valid: Mask | None = None) -> float:
    """`contours`' F1 alone."""
    return contours(pred_depth, true_depth, valid).f1


def boundary_recall(pred_depth: NDArray[np.floating], foreground: Mask) -> float:
    """Share of a matte's border, inside to outside, that the (H, W) depth map shows as a contour; nan without a border.

    foreground: (H, W) bool, the nearer object. For sets with mattes and no depth (hair, fences): precision cannot be
    asked there.
    """
    hits, there = np.zeros(len(THRESHOLDS)), 0
    for (p0, p1), (f0, f1) in zip(
        _neighbours(np.asarray(pred_depth, np.float64)), _neighbours(foreground), strict=True
    ):
        border = f0 & ~f1
        ratio = p1[border] / p0[border]
        there += int(np.count_nonzero(border))
        hits += [np.count_nonzero(ratio > 1 + t) for t in THRESHOLDS]
    return math.nan if there == 0 else _weighted(hits / there, np.full(len(THRESHOLDS), there))


def _neighbours(values: NDArray) -> Iterator[tuple[NDArray, NDArray]]:
    """Views (at pixel i, at neighbour j) for the four directions."""
    yield values[:, :-1], values[:, 1:]
    yield values[:, 1:], values[:, :-1]
    yield values[:-1], values[1:]
    yield values[1:], values[:-1]


def _weighted(scores: NDArray[np.float64], there: NDArray[np.float64]) -> float:
    """Mean weighted by the threshold; thresholds at which the truth has no contour are left out."""
    weights = np.where(there > 0, THRESHOLDS, 0.0)
    return float((weights * scores).sum() / weights.sum())
