"""One net against another on the same pairs: the drop in points, and whether it is distinguishable from none."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from datk.errors import DataError
from datk.evaluate.benchmarks.pairs import RIGHT, UNSCORED, BenchResult, same_pairs
from datk.evaluate.statistics import mcnemar, paired_bootstrap

SEED = 0


class PairedDrop(BaseModel):
    """Accuracy of the reference minus accuracy of the candidate on the pairs both were scored on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bench: str
    candidate: str
    reference: str
    n: int
    candidate_accuracy: float
    reference_accuracy: float
    drop_points: float
    """Percentage points; positive when the candidate is worse."""
    drop_low: float
    drop_high: float
    """95 % interval of the drop: percentile bootstrap over whole images, seeded."""
    only_reference_right: int
    only_candidate_right: int
    p_worse: float
    """One-sided exact McNemar test of "the candidate is worse". It takes pairs of one image as independent, which makes
    it too eager; the bootstrap interval does not."""


def paired_drop(candidate: BenchResult, reference: BenchResult) -> PairedDrop:
    """Compare two results pair by pair.

    Raises UsageError when they are not about the same pairs, DataError when no pair was scored by both.
    """
    same_pairs(candidate, reference)
    groups: list[str] = []
    c: list[bool] = []
    r: list[bool] = []
    for path, outcomes in candidate.outcomes.items():
        for mine, theirs in zip(outcomes, reference.outcomes[path], strict=True):
            if not {mine, theirs} & UNSCORED:
                groups.append(path)
                c.append(mine == RIGHT)
                r.append(theirs == RIGHT)
    if not groups:
        raise DataError(f"{candidate.bench}: no pair was scored by both nets")
    ours, theirs_right = np.array(c), np.array(r)
    test = mcnemar(int((theirs_right & ~ours).sum()), int((ours & ~theirs_right).sum()))
    change = paired_bootstrap(ours.astype(float), theirs_right.astype(float), seed=SEED, groups=groups)
    return PairedDrop(
        bench=candidate.bench,
        candidate=candidate.runner,
        reference=reference.runner,
        n=len(groups),
        candidate_accuracy=float(ours.mean()),
        reference_accuracy=float(theirs_right.mean()),
        drop_points=0.0 - 100 * change.difference,
        drop_low=0.0 - 100 * change.high,
        drop_high=0.0 - 100 * change.low,
        only_reference_right=test.only_reference_right,
        only_candidate_right=test.only_candidate_right,
        p_worse=test.p_worse,
    )
