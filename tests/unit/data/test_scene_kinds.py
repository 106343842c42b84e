"""Kinds of scenes: found where they are, drawn evenly, the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from datk.data.scene_kinds import WORDS, allot, appearance_statistics, depth_statistics, draw, scene_kinds

SIZE = (28, 42)


def ramp(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, SIZE[0], dtype=np.float32)[:, None].repeat(SIZE[1], 1)


def row(number: int, **values: float) -> dict[str, float]:
    """A photograph with a little noise about the named statistics."""
    noise = np.random.default_rng(number).normal(0, 0.02, len(WORDS))
    return {name: values.get(name, 0.5) + float(n) for name, n in zip(WORDS, noise, strict=True)}


def world() -> tuple[list[dict[str, float]], list[int]]:
    """70 streets by day, 20 rooms, 10 streets by night."""
    rows = [row(n, brightness=0.9, far_share=0.9) for n in range(70)]
    rows += [row(n, brightness=0.9, depth_spread=0.9, near_share=0.9) for n in range(70, 90)]
    rows += [row(n, brightness=0.1, far_share=0.9) for n in range(90, 100)]
    return rows, [0] * 70 + [1] * 20 + [2] * 10


def test_statistics_say_what_a_photograph_shows() -> None:
    scene = depth_statistics(ramp(0, 1))
    assert scene["ground"] > 0.6 and scene["depth_spread"] == pytest.approx(0.8, abs=0.08)
    assert depth_statistics(ramp(1, 0))["ground"] < -0.6
    assert depth_statistics(np.zeros(SIZE, np.float32))["far_share"] == 1
    assert depth_statistics(np.full(SIZE, 0.9, np.float32))["near_share"] == 1
    noise = np.random.default_rng(0).random(SIZE, np.float32)
    assert depth_statistics(noise)["relief"] > scene["relief"]
    red, dark = np.full((*SIZE, 3), (200, 40, 20), np.uint8), np.full((*SIZE, 3), 10, np.uint8)
    assert appearance_statistics(red)["warmth"] > 0.5 and appearance_statistics(red)["saturation"] > 0.5
    assert appearance_statistics(dark)["brightness"] < 0.1 and appearance_statistics(dark)["contrast"] < 1e-9
    sky = (ramp(1, 0)[..., None] * 255).repeat(3, -1).astype(np.uint8)
    assert appearance_statistics(sky)["light_above"] > 0.5
    assert set(scene) | set(appearance_statistics(sky)) == set(WORDS)


def test_statistics_do_not_depend_on_the_bucket() -> None:
    fine = np.linspace(0, 1, 560, dtype=np.float32)[:, None].repeat(840, 1)
    for name, value in depth_statistics(fine).items():
        assert value == pytest.approx(depth_statistics(ramp(0, 1))[name], abs=0.1), name


def test_kinds_are_found_and_named_by_what_sets_them_apart() -> None:
    rows, truth = world()
    found = scene_kinds(rows, 3, seed=0)
    assert adjusted_rand_score(truth, found.of) == 1
    assert found.sizes == [70, 20, 10]
    assert "dark" in found.names[2] and ("deep" in found.names[1] or "close-up" in found.names[1])


def test_the_same_rows_give_the_same_kinds() -> None:
    rows, _ = world()
    assert np.array_equal(scene_kinds(rows, 5, seed=3).of, scene_kinds(rows, 5, seed=3).of)


@pytest.mark.parametrize(("n", "count"), [(1, 12), (3, 12), (12, 12), (5, 1)])
def test_few_photographs_make_few_kinds(n: int, count: int) -> None:
    found = scene_kinds([row(i) for i in range(n)], count, seed=0)
    assert sum(found.sizes) == n and len(found.names) <= min(n, count) and min(found.sizes) > 0


def test_photographs_all_alike_are_one_kind() -> None:
    found = scene_kinds([row(0)] * 9, 4, seed=0)
    assert found.sizes == [9] and found.names == ("ordinary",)


def test_a_draw_holds_the_rare_kind_as_often_as_the_common_one() -> None:
    rows, truth = world()
    chosen = draw(scene_kinds(rows, 3, seed=0).of, 24, seed=0)
    assert np.bincount([truth[i] for i in chosen]).tolist() == [8, 8, 8]
    at_random = np.random.default_rng(0).permutation(100)[:24]
    assert np.bincount([truth[i] for i in at_random], minlength=3)[2] < 8


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(0, 300))
def test_shares_are_whole_possible_and_even(sizes: list[int], total: int) -> None:
    taken = allot(sizes, total)
    assert sum(taken) == min(total, sum(sizes))
    assert all(0 <= t <= size for t, size in zip(taken, sizes, strict=True))
    free = [t for t, size in zip(taken, sizes, strict=True) if t < size]
    if free:
        assert max(taken) - min(free) <= 1


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 9))
def test_a_draw_takes_each_photograph_at_most_once(kinds: list[int], total: int, seed: int) -> None:
    chosen = draw(kinds, total, seed=seed)
    assert chosen == sorted(set(chosen)) and len(chosen) == min(total, len(kinds))
    assert chosen == draw(kinds, total, seed=seed)


def test_seeds_draw_different_photographs() -> None:
    kinds = [0] * 50 + [1] * 50
    assert draw(kinds, 20, seed=0) != draw(kinds, 20, seed=1)
