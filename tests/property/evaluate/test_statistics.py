"""Intervals and paired tests against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from datk.evaluate.statistics import mcnemar, paired_bootstrap, wilson_interval

COUNTS = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS)
def test_wilson_interval_agrees_with_scipy(counts: tuple[int, int]) -> None:
    k, n = counts
    expected = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(COUNTS)
def test_wilson_interval_holds_the_share_and_mirrors(counts: tuple[int, int]) -> None:
    k, n = counts
    low, high = wilson_interval(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert wilson_interval(n - k, n) == pytest.approx((1 - high, 1 - low))


def test_wilson_interval_of_nothing_says_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="3 successes of 2"):
        wilson_interval(3, 2)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_agrees_with_the_exact_binomial_test(losses: int, wins: int) -> None:
    result = mcnemar(losses, wins)
    if losses + wins == 0:
        assert (result.p_worse, result.p_two_sided) == (1.0, 1.0)
        return
    assert result.p_worse == pytest.approx(stats.binomtest(losses, losses + wins, alternative="greater").pvalue)
    assert result.p_two_sided == pytest.approx(stats.binomtest(losses, losses + wins).pvalue)


def test_mcnemar_p_falls_when_the_candidate_only_loses() -> None:
    assert mcnemar(10, 0).p_worse == pytest.approx(2**-10)
    assert mcnemar(0, 10).p_worse == 1.0


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_bootstrap_without_groups_agrees_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = rng.random(200)
    candidate = reference + rng.normal(0.1, 0.3, 200)
    ours = paired_bootstrap(candidate, reference, seed=seed, resamples=2000)
    theirs = stats.bootstrap(
        (candidate - reference,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    assert ours.difference == pytest.approx((candidate - reference).mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_bootstrap_repeats_with_its_seed() -> None:
    a, b = np.random.default_rng(1).random((2, 50))
    assert paired_bootstrap(a, b, seed=3) == paired_bootstrap(a, b, seed=3)
    assert paired_bootstrap(a, b, seed=3) != paired_bootstrap(a, b, seed=4)


def test_pairs_of_one_image_are_not_counted_as_independent() -> None:
    """Ten copies of each sample hold no more information: the grouped interval is as wide as without copies."""
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 40))
    single = paired_bootstrap(a, b, seed=0)
    copied = [np.repeat(v, 10) for v in (a, b)]
    groups = [str(k) for k in np.repeat(np.arange(40), 10)]
    grouped = paired_bootstrap(*copied, seed=0, groups=groups)
    naive = paired_bootstrap(*copied, seed=0)
    assert grouped.high - grouped.low == pytest.approx(single.high - single.low, rel=0.1)
    assert naive.high - naive.low < 0.5 * (grouped.high - grouped.low)


def test_bootstrap_refuses_unequal_samples() -> None:
    with pytest.raises(ValueError, match="two equal non-empty"):
        paired_bootstrap(np.zeros(3), np.zeros(4), seed=0)
    with pytest.raises(ValueError, match="2 groups for 3 samples"):
        paired_bootstrap(np.zeros(3), np.zeros(3), seed=0, groups=["a", "b"])


def test_a_resample_of_unequal_groups_is_divided_by_its_own_size() -> None:
    """A constant difference stays that constant, however many samples a resample happens to hold."""
    groups = ["a"] * 30 + ["b"] * 2 + ["c"]
    result = paired_bootstrap(np.full(33, 0.7), np.full(33, 0.2), seed=0, groups=groups)
    assert (result.low, result.high) == pytest.approx((0.5, 0.5))
