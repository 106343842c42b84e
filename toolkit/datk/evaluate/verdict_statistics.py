"""One precision against another on the same device and the same images: speed, accuracy, dense error, edges."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from datk.errors import DataError
from datk.evaluate.benchmarks.pairs import RIGHT, UNSCORED
from datk.evaluate.permutation import DRAWS, EXACT_UP_TO
from datk.evaluate.statistics import mcnemar, paired_bootstrap

SEED = 0
RESAMPLES = 2000
LEAST_ROUNDS = 5


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Speedup(_Record):
    """How many times as fast the candidate is: the base's median time over its own, above 1 is faster."""

    value: float
    low: float
    high: float
    """95 % percentile bootstrap of the ratio of medians over whole rounds."""
    rounds: int


class Change(_Record):
    """candidate - base of one figure over what both were measured on."""

    metric: str
    unit: str
    value: float
    low: float
    high: float
    """95 % percentile bootstrap over whole images, seeded."""
    candidate: float
    base: float
    n: int
    """What was compared: pairs, or photographs."""
    n_images: int
    p: float
    """Two-sided, by `test`."""
    test: str
    higher_is_better: bool

    @property
    def loss(self) -> float:
        """Positive when the candidate is worse, in the figure's unit."""
        return 0.0 - self.value if self.higher_is_better else self.value


def speedup(candidate_ms: Sequence[float], base_ms: Sequence[float], *, seed: int = SEED) -> Speedup:
    """candidate_ms, base_ms: milliseconds of the same rounds, in which both took turns, all > 0.

    Whole rounds are resampled, so that what slowed a round down for both is drawn for both (Efron 1979, percentile).
    Raises ValueError for unequal, non-positive or fewer than 5 rounds.
    """
    ours, base = np.asarray(candidate_ms, np.float64), np.asarray(base_ms, np.float64)
    if ours.shape != base.shape or ours.ndim != 1 or ours.size < LEAST_ROUNDS:
        raise ValueError(f"expected two equal lists of at least {LEAST_ROUNDS} rounds, got {ours.shape}, {base.shape}")
    if not (np.isfinite(ours).all() and np.isfinite(base).all() and (ours > 0).all() and (base > 0).all()):
        raise ValueError("times must be finite and above 0")
    drawn = np.random.default_rng(seed).integers(0, ours.size, (RESAMPLES, ours.size))
    ratios = np.median(base[drawn], axis=1) / np.median(ours[drawn], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    value = float(np.median(base) / np.median(ours))
    return Speedup(value=value, low=min(float(low), value), high=max(float(high), value), rounds=int(ours.size))


def pair_change(candidate: Mapping[str, str], base: Mapping[str, str]) -> Change:
    """Accuracy on a bench, percentage points. Both: image path -> one outcome character a pair (BenchResult.outcomes).

    The test is McNemar's exact one over pairs; the interval draws whole images, which the test does not know of.
    Raises DataError when the two are not about the same pairs or none was scored by both.
    """
    if {k: len(v) for k, v in candidate.items()} != {k: len(v) for k, v in base.items()}:
        raise DataError("the two precisions were not scored on the same pairs", hint="run the recipe again")
    scored = [
        (path, mine == RIGHT, theirs == RIGHT)
        for path, outcomes in candidate.items()
        for mine, theirs in zip(outcomes, base[path], strict=True)
        if not {mine, theirs} & UNSCORED
    ]
    if not scored:
        raise DataError("no pair of the bench was scored for both precisions")
    groups = [path for path, _, _ in scored]
    a, b = np.array([x for _, x, _ in scored]), np.array([x for _, _, x in scored])
    change = paired_bootstrap(a.astype(float), b.astype(float), seed=SEED, groups=groups)
    return Change(
        metric="bench_accuracy",
        unit="pp",
        value=100 * change.difference,
        low=100 * change.low,
        high=100 * change.high,
        candidate=100 * float(a.mean()),
        base=100 * float(b.mean()),
        n=len(groups),
        n_images=len(set(groups)),
        p=mcnemar(int((b & ~a).sum()), int((a & ~b).sum())).p_two_sided,
        test="McNemar, exact, over pairs",
        higher_is_better=True,
    )


def photo_change(
    metric: str, candidate: Mapping[str, float | None], base: Mapping[str, float | None], *, higher_is_better: bool
) -> Change | None:
    """A figure a photograph, by the photograph's name; those for which either is undefined are left out.

    Interval: bootstrap over photographs. Test: signs of the differences flipped (Fisher 1935). None when no photograph
    has both.
    """
    both = [(a, b) for name, a in candidate.items() if a is not None and (b := base.get(name)) is not None]
    if not both:
        return None
    ours, theirs = np.array([a for a, _ in both]), np.array([b for _, b in both])
    change = paired_bootstrap(ours, theirs, seed=SEED)
    return Change(
        metric=metric,
        unit="1",
        value=change.difference,
        low=change.low,
        high=change.high,
        candidate=float(ours.mean()),
        base=float(theirs.mean()),
        n=len(both),
        n_images=len(both),
        p=sign_flip_p(ours - theirs),
        test="sign flips over photographs",
        higher_is_better=higher_is_better,
    )


def changes(candidate: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[Change, Change | None, Change | None]:
    """(bench, AbsRel, boundary F1) of what two validations kept as details.

    Photographs are judged against the teacher where there is one, else against the float net.
    """
    against = "parity_vs_teacher" if "parity_vs_teacher" in candidate else "parity_vs_float"
    suffix = against.removeprefix("parity_")

    def photos(metric: str, *, higher_is_better: bool) -> Change | None:
        ours, theirs = ({i["name"]: i.get(metric) for i in d[against]["images"]} for d in (candidate, base))
        return photo_change(f"{metric}_{suffix}", ours, theirs, higher_is_better=higher_is_better)

    return (
        pair_change(candidate["bench"]["outcomes"], base["bench"]["outcomes"]),
        photos("abs_rel", higher_is_better=False),
        photos("boundary_f1", higher_is_better=True),
    )


def sign_flip_p(differences: NDArray[np.floating], *, seed: int = SEED) -> float:
    """Two-sided p of a mean as far from 0 as observed if every difference's sign were a coin's.

    All sign patterns up to 14 differences, else 20,000 drawn ones, the observed one counted among them.
    """
    d = np.asarray(differences, np.float64)
    if d.size <= EXACT_UP_TO:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=d.size)))
    else:
        signs = np.vstack([np.ones(d.size), np.random.default_rng(seed).choice((1.0, -1.0), (DRAWS, d.size))])
    means = np.abs(signs @ d) / d.size
    observed = abs(float(d.mean()))
    return float((means >= observed * (1 - 1e-12)).mean())
