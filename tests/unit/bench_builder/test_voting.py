"""Pairs pop out when experts dissent and depths differ enough."""

from __future__ import annotations

import math
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datk.bench_builder.voting import Choice, Reading, ballot, depth_ratio, draw, vote
from datk.depth.io_spec import DepthKind

DISPARITY, METRIC = DepthKind.DISPARITY_AFFINE_INVARIANT, DepthKind.DEPTH_METRIC_M
Values = st.floats(0, 100, width=32) | st.just(math.nan) | st.just(math.inf)


def reading(name: str, *values: float, kind: DepthKind = DISPARITY) -> Reading:
    return Reading(expert=name, kind=kind, values=np.array(values, np.float32))


def test_larger_disparity_is_nearer_and_larger_depth_is_farther() -> None:
    assert vote(9, 2, DISPARITY) is Choice.FIRST
    assert vote(9, 2, METRIC) is Choice.SECOND


@pytest.mark.parametrize(("a", "b"), [(2, 2), (math.nan, 1), (1, math.inf)])
def test_a_tie_or_a_broken_value_is_no_vote(a: float, b: float) -> None:
    assert vote(a, b, DISPARITY) is Choice.UNSURE


@given(Values, Values)
def test_a_ratio_is_at_least_one_and_blind_to_order(a: float, b: float) -> None:
    one, other = depth_ratio(a, b), depth_ratio(b, a)
    assert one == other or (math.isnan(one) and math.isnan(other))
    assert math.isnan(one) or one >= 1


def test_sky_is_infinitely_farther_than_anything() -> None:
    assert depth_ratio(0, 0.5) == math.inf
    assert depth_ratio(0, 0) == 1


@given(st.lists(st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)), min_size=1, max_size=5))
def test_the_ratio_rule_is_median_largest_or_smallest(values: list[tuple[float, float]]) -> None:
    readings = [reading(f"e{k}", *pair) for k, pair in enumerate(values)]
    ratios = [depth_ratio(*map(float, np.float32(pair))) for pair in values]
    for rule, expected in (("median", median(ratios)), ("any", max(ratios)), ("all", min(ratios))):
        assert ballot(readings, 0, 1, ratio_of=rule).ratio == pytest.approx(expected, rel=1e-12)  # type: ignore[arg-type]


def test_unanimity_needs_every_expert_to_decide_alike() -> None:
    same = [reading("a", 9, 1), reading("b", 1, 9, kind=METRIC)]
    assert ballot(same, 0, 1).unanimous
    assert not ballot([*same, reading("c", 1, 9)], 0, 1).unanimous
    assert not ballot([*same, reading("c", math.nan, 9)], 0, 1).unanimous
    assert not ballot([reading("c", 2, 2)], 0, 1).unanimous


def test_only_disputed_pairs_above_the_ratio_pop_out() -> None:
    # point 0 near for all; 1 and 2 disputed, ratio 4; 3 close to 2
    readings = [reading("a", 40, 8, 2, 2.1), reading("b", 40, 2, 8, 8.1)]
    drawn = draw(readings, seed=0, per_image=99, max_draws=99, min_depth_ratio=3)
    assert drawn.drawn == 6
    assert {frozenset((p.first, p.second)) for p in drawn.disputed} == {frozenset((1, 2)), frozenset((1, 3))}
    assert {frozenset((p.first, p.second)) for p in drawn.easy} == {frozenset((0, k)) for k in (1, 2, 3)}
    assert drawn.near == 1


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 5), st.integers(1, 80))
def test_draws_are_counted_repeatable_and_never_twice(seed: int, n: int, per_image: int, max_draws: int) -> None:
    rng = np.random.default_rng(seed)
    readings = [Reading(expert=f"e{k}", kind=DISPARITY, values=rng.random(n).astype(np.float32)) for k in range(4)]
    settings = {"seed": seed, "per_image": per_image, "max_draws": max_draws, "min_depth_ratio": 1.5}
    drawn = draw(readings, **settings)  # type: ignore[arg-type]
    assert drawn == draw(readings, **settings)  # type: ignore[arg-type]
    assert drawn.near + len(drawn.easy) + len(drawn.disputed) == drawn.drawn <= min(max_draws, n * (n - 1) // 2)
    assert len(drawn.disputed) <= per_image
    popped = [frozenset((p.first, p.second)) for p in (*drawn.disputed, *drawn.easy)]
    assert len(set(popped)) == len(popped) and all(len(p) == 2 for p in popped)
    assert all(p.ballot.ratio > 1.5 and not p.ballot.unanimous for p in drawn.disputed)


def test_neither_side_of_the_page_is_nearer_more_often() -> None:
    values = np.arange(1, 61, dtype=np.float32)
    readings = [Reading(expert="a", kind=DISPARITY, values=values), reading("b", *values[::-1])]
    drawn = draw(readings, seed=3, per_image=400, max_draws=1000, min_depth_ratio=1)
    share = np.mean([p.ballot.votes["a"] is Choice.FIRST for p in drawn.disputed])
    assert 0.4 < share < 0.6
