"""Experts vote which of two points is nearer; what they dissent on goes to people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import DepthKind

Point = tuple[int, int]
"""(row, column) in pixels of the original image."""


class Choice(StrEnum):
    """What a person or an expert says of a pair."""

    FIRST = "first"
    """The first point (A on the page) is closer."""
    SECOND = "second"
    UNSURE = "unsure"
    BAD = "bad"
    """The pair itself is no good: both on one thing, on a border, or the picture unsuited."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One expert's map of one image, read at the image's key points."""

    expert: str
    kind: DepthKind
    values: NDArray[np.float32]
    """(N,) in the order of the key points; disparity or depth as `kind` says; NaN where it gave none."""


@dataclass(frozen=True, kw_only=True)
class Ballot:
    """What the experts made of one pair."""

    votes: dict[str, Choice]
    """FIRST, SECOND, or UNSURE where the two values are equal or one is not finite."""
    ratio: float
    """Predicted depth ratio >= 1 after the rule; may be infinite (sky in disparity); NaN when nobody gave values."""

    @property
    def unanimous(self) -> bool:
        """All experts decided, and alike."""
        return len(set(self.votes.values())) == 1 and Choice.UNSURE not in self.votes.values()


def vote(a: float, b: float, kind: DepthKind) -> Choice:
    """One expert's choice from its values at the first and second point. Strict: equal or not finite is UNSURE."""
    if not (np.isfinite(a) and np.isfinite(b)) or a == b:
        return Choice.UNSURE
    return Choice.FIRST if (a > b) == (kind.larger_is == "nearer") else Choice.SECOND


def depth_ratio(a: float, b: float) -> float:
    """Larger over smaller of two values >= 0, so 1 or more; equal values give 1, one zero gives infinity.

    The same for depth and for disparity, whose ratio is the depths' inverse ratio; affine-invariant disparity carries
    an unknown shift, so there the figure is the net's own and not a metric one. NaN unless both are finite and >= 0.
    """
    if not (np.isfinite(a) and np.isfinite(b)) or min(a, b) < 0:
        return float("nan")
    if a == b:
        return 1.0
    low, high = sorted((float(a), float(b)))
    return high / low if low > 0 else float("inf")


def ballot(
    readings: Sequence[Reading], first: int, second: int, *, ratio_of: Literal["median", "any", "all"] = "median"
) -> Ballot:
    """All experts on the pair of key points with these indices.

    ratio_of: the experts' median ratio, the largest (any exceeds) or the smallest (all exceed); NaN is left out.
    """
    pairs = [(float(r.values[first]), float(r.values[second])) for r in readings]
    votes = {r.expert: vote(a, b, r.kind) for r, (a, b) in zip(readings, pairs, strict=True)}
    ratios = sorted(ratio for a, b in pairs if not np.isnan(ratio := depth_ratio(a, b)))
    if not ratios:
        return Ballot(votes=votes, ratio=float("nan"))
    middle = len(ratios) // 2
    median = ratios[middle] if len(ratios) % 2 else (ratios[middle - 1] + ratios[middle]) / 2
    return Ballot(votes=votes, ratio={"median": median, "any": ratios[-1], "all": ratios[0]}[ratio_of])


@dataclass(frozen=True, kw_only=True)
class DrawnPair:
    """A pair that popped out."""

    first: int
    second: int
    ballot: Ballot


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Everything the draws on one image came to; near + easy + len(disputed) == drawn."""

    disputed: tuple[DrawnPair, ...]
    easy: tuple[DrawnPair, ...]
    """Unanimous pairs above the ratio; dropped unless asked for."""
    drawn: int
    near: int
    """Draws whose ratio did not exceed the least one."""


def draw(
    readings: Sequence[Reading],
    *,
    seed: int,
    per_image: int,
    max_draws: int,
    min_depth_ratio: float,
    ratio_of: Literal["median", "any", "all"] = "median",
) -> Draws:
    """Draw two key points at random until `per_image` pairs are disputed or `max_draws` is reached.

    The paper's first pipeline: unanimity means drawing again. No pair is drawn twice, and the two points come in
    random order, so that neither side of the page is nearer more often. readings: at least one, of equal length.
    """
    n = len(readings[0].values)
    every = n * (n - 1) // 2
    rng = np.random.default_rng(seed)
    seen: set[tuple[int, int]] = set()
    disputed: list[DrawnPair] = []
    easy: list[DrawnPair] = []
    near = 0
    while len(seen) < min(max_draws, every) and len(disputed) < per_image:
        one, other = (int(k) for k in rng.choice(n, 2, replace=False))
        key = (min(one, other), max(one, other))
        if key in seen:
            continue
        seen.add(key)
        pair = DrawnPair(first=one, second=other, ballot=ballot(readings, one, other, ratio_of=ratio_of))
        if not pair.ballot.ratio > min_depth_ratio:
            near += 1
        elif pair.ballot.unanimous:
            easy.append(pair)
        else:
            disputed.append(pair)
    return Draws(disputed=tuple(disputed), easy=tuple(easy), drawn=len(seen), near=near)
