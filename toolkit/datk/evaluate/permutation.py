"""Is one artifact slower than another on the same device? A paired permutation test over interleaved rounds."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXACT_UP_TO = 14
"""Rounds up to which every sign pattern is tried: 2^14 sums."""
DRAWS = 20_000
LEAST_ROUNDS = 5
"""With fewer, no sign pattern is rarer than 1 in 16: nothing could be significant."""


@dataclass(frozen=True)
class PairedSlowdown:
    """candidate / baseline, from rounds in which both took turns."""

    ratio: float
    """Geometric mean over the rounds."""
    low: float
    high: float
    """95 % percentile bootstrap over rounds."""
    p_slower: float
    """One-sided: chance of so large a ratio if the candidate were `allowed` times the baseline or faster."""
    allowed: float
    rounds: int
    exact: bool


def paired_slowdown(
    candidate_ms: NDArray[np.floating], baseline_ms: NDArray[np.floating], *, allowed: float = 1.0, seed: int = 0
) -> PairedSlowdown:
    """candidate_ms, baseline_ms: (rounds,) milliseconds of the same rounds, both > 0.

    Under the null hypothesis ratio / allowed is as often above as below 1, so each round's sign is exchangeable
    (Fisher 1935). Signs are tried in full up to 14 rounds, else drawn, the observed pattern counted among them.
    Raises ValueError for unequal, non-positive or fewer than 5 rounds.
    """
    ours, base = np.asarray(candidate_ms, np.float64), np.asarray(baseline_ms, np.float64)
    if ours.shape != base.shape or ours.ndim != 1 or ours.size < LEAST_ROUNDS:
        raise ValueError(f"expected two equal arrays of at least {LEAST_ROUNDS} rounds, got {ours.shape}, {base.shape}")
    if not (np.isfinite(ours).all() and np.isfinite(base).all() and (ours > 0).all() and (base > 0).all()):
        raise ValueError("times must be finite and above 0")
    logs = np.log(ours / base)
    shifted = logs - math.log(allowed)
    rng = np.random.default_rng(seed)
    exact = logs.size <= EXACT_UP_TO
    if exact:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=logs.size)))  # (2^n, n)
    else:
        signs = np.vstack([np.ones(logs.size), rng.choice((1.0, -1.0), (DRAWS, logs.size))])
    means = signs @ np.abs(shifted) / logs.size if exact else signs @ shifted / logs.size
    p = float((means >= shifted.mean() - 1e-12).mean())
    drawn = logs[rng.integers(0, logs.size, (2000, logs.size))].mean(axis=1)
    low, high = np.exp(np.quantile(drawn, [0.025, 0.975]))
    return PairedSlowdown(float(np.exp(logs.mean())), float(low), float(high), p, allowed, int(logs.size), exact)
