"""Intervals and paired tests for accuracy figures. Standard library and NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval for a share, both ends in 0..1; (0, 1) when n is 0.

    Wilson 1927; unlike the plain normal interval it stays inside 0..1 and is right near 100 %.
    Raises ValueError unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


@dataclass(frozen=True)
class McNemar:
    """Exact test on the pairs the two nets disagree about."""

    only_reference_right: int
    only_candidate_right: int
    p_worse: float
    """One-sided: chance of at least this many losses if the candidate were as good as the reference."""
    p_two_sided: float


def mcnemar(only_reference_right: int, only_candidate_right: int) -> McNemar:
    """Exact McNemar test: under equal accuracy the disagreements fall either way like a fair coin.

    Exact binomial arithmetic, so valid for any count. p is 1 when the two never disagree.
    """
    n = only_reference_right + only_candidate_right
    if min(only_reference_right, only_candidate_right) < 0:
        raise ValueError("counts must not be negative")
    p_worse = _upper_tail(only_reference_right, n)
    p_better = _upper_tail(only_candidate_right, n)
    return McNemar(only_reference_right, only_candidate_right, p_worse, min(1.0, 2 * min(p_worse, p_better)))


def _upper_tail(k: int, n: int) -> float:
    """P(X >= k) for X ~ Binomial(n, 1/2), in exact integers."""
    return float(Fraction(sum(math.comb(n, i) for i in range(k, n + 1)), 2**n))


@dataclass(frozen=True)
class Bootstrap:
    """Mean of paired differences with a percentile interval."""

    difference: float
    low: float
    high: float
    resamples: int
    seed: int


def paired_bootstrap(
    candidate: NDArray[np.floating],
    reference: NDArray[np.floating],
    *,
    seed: int,
    groups: Sequence[str] | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Bootstrap:
    """Interval of mean(candidate - reference) over paired samples, both 1-D of equal length.

    groups: what is drawn together, for example the image a pair of points lies on: pairs of one image are not
    independent, so whole groups are resampled. None = each sample alone. Percentile method, Efron 1979.
    """
    if candidate.shape != reference.shape or candidate.ndim != 1 or candidate.size == 0:
        raise ValueError(f"expected two equal non-empty 1-D arrays, got {candidate.shape} and {reference.shape}")
    difference = np.asarray(candidate, np.float64) - np.asarray(reference, np.float64)
    if groups is None:
        index = np.arange(difference.size)
    else:
        _, index = np.unique(np.asarray(groups), return_inverse=True)
        if index.size != difference.size:
            raise ValueError(f"{index.size} groups for {difference.size} samples")
    sums, counts = np.bincount(index, difference), np.bincount(index)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for k in range(resamples):
        drawn = rng.integers(0, sums.size, sums.size)
        means[k] = sums[drawn].sum() / counts[drawn].sum()
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Bootstrap(float(difference.mean()), float(low), float(high), resamples, seed)
