"""Two nets on the same pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datk.errors import DataError, UsageError
from datk.evaluate.benchmarks.da2k import load
from datk.evaluate.benchmarks.pairs import BenchResult, score_pairs
from datk.evaluate.paired import paired_drop

from .conftest import ToyRunner, edit, red


def result(root: Path, *, flip: bool = False) -> BenchResult:
    return score_pairs(ToyRunner((lambda i: -red(i)) if flip else red), load(root))


def test_the_drop_is_reference_minus_candidate_in_points(da2k: Path) -> None:
    worse = paired_drop(result(da2k, flip=True), result(da2k))
    assert (worse.drop_points, worse.drop_low, worse.drop_high, worse.n) == (100, 100, 100, 6)
    assert worse.p_worse == pytest.approx(2**-6) and worse.only_reference_right == 6
    better = paired_drop(result(da2k), result(da2k, flip=True))
    assert better.drop_points == -100 and better.p_worse == 1.0


def test_equal_nets_have_no_drop(da2k: Path) -> None:
    same = paired_drop(result(da2k), result(da2k))
    assert (same.drop_points, same.drop_low, same.drop_high, same.p_worse) == (0, 0, 0, 1.0)


def test_a_partial_drop_has_an_interval_around_it(da2k: Path) -> None:
    candidate = score_pairs(
        ToyRunner(lambda i: np.where(np.arange(i.shape[0])[:, None] > i.shape[0] / 2, red(i), -red(i))), load(da2k)
    )
    drop = paired_drop(candidate, result(da2k))
    assert drop.drop_low <= drop.drop_points <= drop.drop_high
    assert drop.candidate_accuracy < drop.reference_accuracy == 1.0


def test_missing_images_are_left_out_of_both(da2k: Path) -> None:
    full = result(da2k)
    (da2k / "images" / "indoor" / "a.jpg").unlink()
    assert paired_drop(result(da2k), full).n == 4


def test_results_on_different_pairs_are_refused(da2k: Path) -> None:
    before = result(da2k)
    edit(da2k, lambda a: a["images/aerial/c.jpg"].pop())
    with pytest.raises(UsageError, match="were not scored on the same pairs"):
        paired_drop(result(da2k), before)


def test_no_common_pair_is_an_error(da2k: Path) -> None:
    full = result(da2k)
    none = full.model_copy(update={"outcomes": {k: "-" * len(v) for k, v in full.outcomes.items()}})
    with pytest.raises(DataError, match="no pair was scored by both"):
        paired_drop(none, full)
