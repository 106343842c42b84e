"""Kinds of scenes, told from what photographs look like and how their depth is spread; and a draw that covers them all.

Twelve statistics a photograph, six of its depth and six of its appearance, each in standard deviations over the
candidates; k-means (OpenCV's, Arthur and Vassilvitskii's start) groups them. A calibration set drawn evenly over the
groups holds the rare kinds, whose activations set the ranges, as well as the common ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Row = Mapping[str, float]
WORDS = {
    "depth_median": ("mostly far", "mostly near"),
    "depth_spread": ("flat depth", "deep"),
    "far_share": ("no far field", "far field"),
    "near_share": ("nothing close", "close-up"),
    "ground": ("no ground below", "ground below"),
    "relief": ("smooth depth", "rugged depth"),
    "brightness": ("dark", "bright"),
    "contrast": ("low contrast", "high contrast"),
    "saturation": ("grey", "colourful"),
    "warmth": ("cool", "warm"),
    "detail": ("plain", "textured"),
    "light_above": ("lighter below", "lighter above"),
}
"""Every statistic with its words for low and high."""
FAR, NEAR = 0.05, 0.7
"""Disparity, as a share of a label's range, below which a pixel counts as far and above which as near."""
LIMIT = 3.0
"""Standard deviations at which one statistic stops pulling a photograph away from its kind."""
TELLING = 0.5
"""Standard deviations from which a kind is named after a statistic."""
STARTS, ROUNDS = 8, 100


@dataclass(frozen=True)
class Kinds:
    """of: (n,) the kind of each photograph, 0..len(names)-1. names: a kind in words. means: its mean statistics."""

    of: NDArray[np.int64]
    names: tuple[str, ...]
    means: tuple[dict[str, float], ...]

    @property
    def sizes(self) -> list[int]:
        """Photographs of each kind."""
        return [int(n) for n in np.bincount(self.of, minlength=len(self.names))]


def depth_statistics(disparity: NDArray[np.float32]) -> dict[str, float]:
    """Of one pseudo-label, (h, w) float32 disparity in 0..1, 1 nearest; none depends on the map's size in pixels."""
    values = disparity.astype(np.float64)
    height, width = values.shape
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    third = max(1, height // 3)
    steps = np.abs(np.diff(values, axis=0)).mean() * height + np.abs(np.diff(values, axis=1)).mean() * width
    return {
        "depth_median": float(middle),
        "depth_spread": float(high - low),
        "far_share": float((values < FAR).mean()),
        "near_share": float((values > NEAR).mean()),
        "ground": float(values[-third:].mean() - values[:third].mean()),
        "relief": float(np.log10(steps + 1e-3)),
    }


def appearance_statistics(image: NDArray[np.uint8]) -> dict[str, float]:
    """Of one (h, w, 3) uint8 RGB photograph at its bucket."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64) / 255
    third = max(1, grey.shape[0] // 3)
    red, blue = (image[..., channel].astype(np.float64).mean() / 255 for channel in (0, 2))
    return {
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "saturation": float(cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 1].mean() / 255),
        "warmth": float(red - blue),
        "detail": float(np.log10(np.abs(cv2.Laplacian(grey, cv2.CV_64F)).mean() + 1e-3)),
        "light_above": float(grey[:third].mean() - grey[-third:].mean()),
    }


def scene_kinds(rows: Sequence[Row], count: int, *, seed: int) -> Kinds:
    """Group photographs into at most `count` kinds by their statistics (the keys of WORDS). Same rows, same kinds.

    Kinds are numbered by size, the largest first; none is empty. Raises ValueError without rows.
    """
    if not rows or count < 1:
        raise ValueError(f"{len(rows)} photographs in {count} kinds")
    table = np.array([[row[name] for name in WORDS] for row in rows], np.float64)  # (n, 12)
    spread = table.std(0)
    units = np.clip((table - table.mean(0)) / np.where(spread > 1e-12, spread, 1.0), -LIMIT, LIMIT)
    found = _clusters(units.astype(np.float32), min(count, len(np.unique(units.astype(np.float32), axis=0))), seed)
    order = sorted(set(found.tolist()), key=lambda kind: (-int((found == kind).sum()), int(np.argmax(found == kind))))
    of = np.array([order.index(int(kind)) for kind in found], np.int64)
    groups = [of == kind for kind in range(len(order))]
    return Kinds(
        of=of,
        names=tuple(_name(units[group].mean(0)) for group in groups),
        means=tuple(
            {name: round(float(value), 4) for name, value in zip(WORDS, table[group].mean(0), strict=True)}
            for group in groups
        ),
    )


def _clusters(units: NDArray[np.float32], count: int, seed: int) -> NDArray[np.int64]:
    """k-means, the best of several starts. units: (n, features). Returns (n,) cluster numbers, not all of them used."""
    if count == 1:
        return np.zeros(len(units), np.int64)
    cv2.setRNGSeed(seed)
    ends = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, ROUNDS, 1e-4)
    _, labels, _ = cv2.kmeans(units, count, np.empty(0, np.int32), ends, STARTS, cv2.KMEANS_PP_CENTERS)
    return np.asarray(labels, np.int64).ravel()


def _name(mean: NDArray[np.float64]) -> str:
    """The two statistics in which a kind differs most, in words. mean: (12,) in standard deviations."""
    order = np.argsort(-np.abs(mean), kind="stable")
    telling = [i for i in order[:2] if abs(mean[i]) >= TELLING]
    words = list(WORDS.values())
    return ", ".join(words[i][int(mean[i] > 0)] for i in telling) or "ordinary"


def allot(sizes: Sequence[int], total: int) -> list[int]:
    """How many to take of each kind, as evenly as their sizes allow; sum = min(total, sum(sizes)).

    What a small kind cannot give, the others share; what is left over one by one goes to the first kinds.
    """
    taken = [0] * len(sizes)
    left = min(total, sum(sizes))
    while left:
        open_kinds = [k for k, size in enumerate(sizes) if taken[k] < size]
        share = max(1, left // len(open_kinds))
        for kind in open_kinds:
            more = min(share, sizes[kind] - taken[kind], left)
            taken[kind] += more
            left -= more
    return taken


def draw(kinds: Sequence[int] | NDArray[np.int64], total: int, *, seed: int) -> list[int]:
    """Indices of at most `total` photographs, rising, drawn evenly over the kinds; within a kind, by seed."""
    of = np.asarray(kinds, np.int64)
    groups = [np.flatnonzero(of == kind) for kind in np.unique(of)]
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for group, count in zip(groups, allot([len(g) for g in groups], total), strict=True):
        chosen += [int(i) for i in rng.permutation(group)[:count]]
    return sorted(chosen)
