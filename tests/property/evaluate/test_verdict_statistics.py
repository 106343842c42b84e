"""Speed, accuracy and per-photograph figures of one precision against another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test

from datk.errors import DataError
from datk.evaluate.verdict_statistics import pair_change, photo_change, sign_flip_p, speedup

times = st.lists(st.floats(1, 100), min_size=5, max_size=40)


@given(times, st.floats(0.2, 5))
def test_a_runtime_k_times_as_fast_in_every_round_is_k_times_as_fast_without_doubt(base, k) -> None:
    got = speedup([t / k for t in base], base)
    assert got.value == pytest.approx(k) and got.low == pytest.approx(k) and got.high == pytest.approx(k)
    assert got.rounds == len(base)


@given(st.lists(st.tuples(st.floats(1, 100), st.floats(1, 100)), min_size=5, max_size=40), st.floats(0.1, 10))
def test_the_speedup_lies_in_its_interval_and_knows_no_unit_of_time(rounds, unit) -> None:
    ours, base = [a for a, _ in rounds], [b for _, b in rounds]
    got = speedup(ours, base)
    assert got.low <= got.value <= got.high
    assert got.value == pytest.approx(np.median(base) / np.median(ours))
    scaled = speedup([unit * t for t in ours], [unit * t for t in base])
    assert (scaled.value, scaled.low, scaled.high) == pytest.approx((got.value, got.low, got.high))


def test_the_interval_of_the_speedup_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for seed in range(200):
        noise = rng.lognormal(0, 0.1, (2, 30))
        got = speedup((10 * noise[0]).tolist(), (13 * noise[1]).tolist(), seed=seed)
        held += got.low <= 1.3 <= got.high
    assert held >= 180, f"{held} of 200"


@pytest.mark.parametrize("bad", [[1.0] * 4, [1.0] * 5 + [0.0], [1.0] * 5 + [float("nan")]])
def test_too_few_rounds_and_impossible_times_are_refused(bad) -> None:
    with pytest.raises(ValueError, match=r"rounds|above 0"):
        speedup(bad, bad)


@given(st.lists(st.floats(-1, 1).filter(lambda v: abs(v) > 1e-3), min_size=2, max_size=8))
def test_the_sign_flip_p_is_that_of_scipys_exact_permutation_test(differences) -> None:
    d = np.array(differences)
    want = permutation_test(
        (d, np.zeros_like(d)), lambda x, y, axis: np.abs(np.mean(x - y, axis=axis)),
        permutation_type="samples", vectorized=True, alternative="greater",
    )  # fmt: skip
    assert sign_flip_p(d) == pytest.approx(want.pvalue)


def test_an_equal_error_on_every_photograph_is_no_change_and_a_shift_is_one() -> None:
    base = {f"p{i}": 0.1 + 0.001 * i for i in range(40)}
    same = photo_change("abs_rel", base, base, higher_is_better=False)
    assert same is not None and (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    worse = photo_change("abs_rel", {k: v + 0.02 for k, v in base.items()}, base, higher_is_better=False)
    assert worse is not None and worse.loss == pytest.approx(0.02) and worse.p < 1e-3 and worse.low > 0
    assert worse.base == pytest.approx(np.mean(list(base.values())))


def test_photographs_on_which_either_is_undefined_are_left_out_and_none_at_all_is_said() -> None:
    ours = {"a": 0.5, "b": None, "c": 0.1}
    got = photo_change("boundary_f1", ours, {"a": 0.4, "b": 0.2, "c": None}, higher_is_better=True)
    assert got is not None and got.n == 1 and got.value == pytest.approx(0.1) and got.loss == pytest.approx(-0.1)
    assert photo_change("boundary_f1", ours, {"z": 1.0}, higher_is_better=True) is None


def test_pairs_are_compared_one_by_one_and_unscored_ones_left_out() -> None:
    got = pair_change({"a": "1100o", "b": "11"}, {"a": "1110o", "b": "1t"})
    assert (got.n, got.n_images, got.value) == (6, 2, 0.0)
    assert got.candidate == got.base == pytest.approx(100 * 4 / 6)
    assert got.p == 1.0 and got.low <= 0 <= got.high


def test_other_pairs_are_refused() -> None:
    with pytest.raises(DataError, match="same pairs"):
        pair_change({"a": "11"}, {"a": "111"})
    with pytest.raises(DataError, match="no pair"):
        pair_change({"a": "--"}, {"a": "11"})
