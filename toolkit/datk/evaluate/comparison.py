"""One model against another on one benchmark: the difference, its interval, the test, and what that means in words."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from datk.errors import DataError, UsageError
from datk.evaluate.benchmarks.dense import HIGHER_IS_BETTER, DenseResult
from datk.evaluate.benchmarks.pairs import RIGHT, UNSCORED, BenchResult, same_pairs
from datk.evaluate.statistics import mcnemar, paired_bootstrap

SEED = 0
LEVEL = 0.05
ACCURACY = "accuracy"
FEWEST_IMAGES = 6
"""Dense: below this no difference is called one. Even if every image went the same way, the exact sign test would not
reach 5 % (2 / 2^5 = 6.25 %), while a bootstrap over five images, or one, leaves 0 out all too easily."""


class Difference(BaseModel):
    """candidate - reference of one figure over what both were scored on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bench: str
    metric: str
    candidate: str
    reference: str
    value: float
    """Percentage points for accuracy, the metric's own unit otherwise."""
    low: float
    high: float
    """95 % percentile bootstrap over whole images, seeded."""
    unit: str
    candidate_value: float
    reference_value: float
    n: int
    n_images: int
    p: float | None
    """Two-sided exact McNemar test over pairs; None for dense metrics, where the interval is the test."""
    higher_is_better: bool

    @property
    def distinguishable(self) -> bool:
        """Whether the interval leaves 0 out and, for pairs, McNemar's test agrees at 5 %.

        Both: pairs of one image are not independent, which the test does not know and the bootstrap does. Dense
        metrics have no such test; there it takes FEWEST_IMAGES.
        """
        apart = self.low > 0 or self.high < 0
        return apart and (self.n_images >= FEWEST_IMAGES if self.p is None else self.p < LEVEL)

    @property
    def better(self) -> bool:
        return self.value > 0 if self.higher_is_better else self.value < 0

    @property
    def words(self) -> str:
        """One sentence."""
        where = f"{self.n:,} pairs on {self.n_images:,} images" if self.p is not None else f"{self.n_images:,} images"
        test = "" if self.p is None else f"; McNemar p {self.p:.2g}"
        size = f"{self.value:+.2f} pp" if self.unit == "pp" else f"{self.value:+.4g}"
        ends = f"{self.low:+.2f} to {self.high:+.2f}" if self.unit == "pp" else f"{self.low:+.4g} to {self.high:+.4g}"
        if not self.distinguishable:
            verdict = f"not distinguishable from {self.reference}"
        else:
            verdict = f"{'better' if self.better else 'worse'} than {self.reference}"
        return f"{verdict}: {self.metric} {size} (95 % {ends}{test}) over {where}"


def compare(
    candidate: BenchResult | DenseResult, reference: BenchResult | DenseResult, *, metric: str | None = None
) -> Difference:
    """candidate against reference. metric: of a dense result, "abs_rel" unless told, or "VARIANT.abs_rel".

    Raises UsageError when the two are not about the same benchmark or know no such metric, DataError when nothing was
    scored by both.
    """
    if isinstance(candidate, BenchResult) and isinstance(reference, BenchResult):
        if metric not in (None, ACCURACY, candidate.bench):
            raise UsageError(f"{candidate.bench} has no figure '{metric}'", hint=f"it has {ACCURACY}")
        return _pairs(candidate, reference)
    if isinstance(candidate, DenseResult) and isinstance(reference, DenseResult) and candidate.bench == reference.bench:
        return _dense(candidate, reference, metric)
    raise UsageError(
        f"{candidate.runner} on {candidate.bench} and {reference.runner} on {reference.bench} do not compare"
    )


def headline(result: BenchResult | DenseResult) -> str:
    """The metric shown first."""
    if isinstance(result, BenchResult):
        return ACCURACY
    first = next(iter(result.figures.values()))
    return "abs_rel" if "abs_rel" in first else next(iter(first))


def figure(result: BenchResult | DenseResult, metric: str) -> float:
    """A figure by name: accuracy in %, or a dense metric, "VARIANT.METRIC" for another variant than the first.

    Raises UsageError with the known names.
    """
    if isinstance(result, BenchResult):
        if metric not in (ACCURACY, result.bench) or result.overall.accuracy is None:
            raise UsageError(f"{result.bench} has no figure '{metric}'", hint=f"it has {ACCURACY}")
        return 100 * result.overall.accuracy
    variant, name = split_metric(result, metric)
    return result.figures[variant][name]


def split_metric(result: DenseResult, metric: str) -> tuple[str, str]:
    """(variant, name) of a dense metric. Raises UsageError with the known names."""
    if metric == result.bench:
        metric = headline(result)
    variant, _, name = metric.rpartition(".")
    variant = variant or next(iter(result.figures))
    if name not in result.figures.get(variant, {}):
        known = [f"{v}.{m}" if k else m for k, (v, row) in enumerate(result.figures.items()) for m in row]
        raise UsageError(
            f"{result.runner} on {result.bench} has no figure '{metric}'", hint=f"known: {', '.join(known)}"
        )
    return variant, name


def _pairs(candidate: BenchResult, reference: BenchResult) -> Difference:
    same_pairs(candidate, reference)
    groups: list[str] = []
    ours: list[bool] = []
    theirs: list[bool] = []
    for path, outcomes in candidate.outcomes.items():
        for mine, other in zip(outcomes, reference.outcomes[path], strict=True):
            if not {mine, other} & UNSCORED:
                groups.append(path)
                ours.append(mine == RIGHT)
                theirs.append(other == RIGHT)
    if not groups:
        raise DataError(f"{candidate.bench}: no pair was scored by both {candidate.runner} and {reference.runner}")
    a, b = np.array(ours), np.array(theirs)
    test = mcnemar(int((b & ~a).sum()), int((a & ~b).sum()))
    change = paired_bootstrap(a.astype(float), b.astype(float), seed=SEED, groups=groups)
    return Difference(
        bench=candidate.bench,
        metric=ACCURACY,
        candidate=candidate.runner,
        reference=reference.runner,
        value=100 * change.difference,
        low=100 * change.low,
        high=100 * change.high,
        unit="pp",
        candidate_value=100 * float(a.mean()),
        reference_value=100 * float(b.mean()),
        n=len(groups),
        n_images=len(set(groups)),
        p=test.p_two_sided,
        higher_is_better=True,
    )


def _dense(candidate: DenseResult, reference: DenseResult, metric: str | None) -> Difference:
    variant, name = split_metric(candidate, metric or headline(candidate))
    other, _ = split_metric(reference, metric or headline(reference))
    both = [
        key
        for key, figures in candidate.images.items()
        if name in figures.get(variant, {}) and name in reference.images.get(key, {}).get(other, {})
    ]
    if not both:
        raise DataError(f"{candidate.bench}: no image was scored by both {candidate.runner} and {reference.runner}")
    a = np.array([candidate.images[k][variant][name] for k in both])
    b = np.array([reference.images[k][other][name] for k in both])
    change = paired_bootstrap(a, b, seed=SEED)
    share = name.startswith(("delta", "boundary"))
    scale = 100.0 if share else 1.0
    return Difference(
        bench=candidate.bench,
        metric=name if variant == next(iter(candidate.figures)) else f"{variant}.{name}",
        candidate=candidate.runner,
        reference=reference.runner,
        value=scale * change.difference,
        low=scale * change.low,
        high=scale * change.high,
        unit="pp" if share else "",
        candidate_value=scale * float(a.mean()),
        reference_value=scale * float(b.mean()),
        n=len(both),
        n_images=len(both),
        p=None,
        higher_is_better=name in HIGHER_IS_BETTER,
    )
