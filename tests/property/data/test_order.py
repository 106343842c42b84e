"""The order of samples is a pure function of one counter: everything seen, nothing twice, shares kept."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datk.data.order import Mixture, index_at, permuted
from datk.errors import UsageError

SEEDS = st.integers(0, 2**32 - 1)


@given(count=st.integers(1, 400), key=st.lists(SEEDS, min_size=1, max_size=3))
def test_a_permutation_sends_every_number_somewhere_else(count: int, key: list[int]) -> None:
    assert sorted(permuted(i, count, *key) for i in range(count)) == list(range(count))


@given(index=st.integers(0, 62_000_000 - 1), seed=SEEDS)
def test_a_permutation_of_62_million_needs_no_table(index: int, seed: int) -> None:
    assert 0 <= permuted(index, 62_000_000, seed) < 62_000_000


def test_orders_of_different_seeds_and_epochs_differ_and_scatter() -> None:
    count = 1000
    first = [index_at(p, count, seed=0) for p in range(count)]
    second = [index_at(p, count, seed=0) for p in range(count, 2 * count)]
    other = [index_at(p, count, seed=1) for p in range(count)]
    for a, b in ((first, second), (first, other), (first, list(range(count)))):
        assert sum(x == y for x, y in zip(a, b, strict=True)) < 10
    neighbours = sum(abs(x - y) < 50 for x, y in itertools.pairwise(first))
    assert 50 < neighbours < 150, "about 10 % of neighbours in a fair shuffle lie within 50 of each other"


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4), seed=SEEDS)
def test_without_weights_an_epoch_is_every_sample_once(lengths: list[int], seed: int) -> None:
    mixture = Mixture(tuple(lengths), seed=seed)
    for epoch in range(2):
        seen = [mixture.at(epoch * len(mixture) + p) for p in range(len(mixture))]
        assert sorted(seen) == list(range(len(mixture)))


@settings(max_examples=20)
@given(lengths=st.lists(st.integers(1, 1500), min_size=2, max_size=4), data=st.data(), seed=SEEDS)
def test_with_weights_every_block_holds_each_share_exactly(lengths: list[int], data: st.DataObject, seed: int) -> None:
    weights = data.draw(st.lists(st.floats(0.01, 10), min_size=len(lengths), max_size=len(lengths)))
    mixture = Mixture(tuple(lengths), tuple(weights), seed=seed)
    block = data.draw(st.integers(0, 3))
    parts = Counter(mixture.locate(mixture.at(block * 1000 + p))[0] for p in range(1000))
    for part, weight in enumerate(weights):
        assert parts[part] == mixture.quotas[part]
        assert abs(parts[part] - max(1, 1000 * weight / sum(weights))) <= len(weights)


def test_with_weights_each_set_comes_round_in_whole_epochs_of_its_own() -> None:
    mixture = Mixture((7, 300), (0.05, 0.95), seed=3)
    seen: dict[int, list[int]] = {0: [], 1: []}
    for position in range(4000):
        part, index = mixture.locate(mixture.at(position))
        seen[part].append(index)
    for part, length in ((0, 7), (1, 300)):
        epochs = [seen[part][i : i + length] for i in range(0, len(seen[part]) - length + 1, length)]
        assert len(epochs) > 10 and all(sorted(e) == list(range(length)) for e in epochs)
    assert len(seen[0]) == 200, "5 % of 4000"


@given(position=st.integers(0, 10**12), seed=SEEDS)
def test_a_position_far_out_costs_no_more_and_gives_the_same_twice(position: int, seed: int) -> None:
    one, two = (Mixture((5, 62_000_000), (0.1, 0.9), seed=seed) for _ in range(2))
    assert one.at(position) == two.at(position)


@pytest.mark.parametrize(
    ("lengths", "weights"),
    [((), None), ((3, 0), None), ((3, 4), (1.0,)), ((3, 4), (1.0, 0.0)), ((3,), (float("nan"),))],
)
def test_what_is_no_mixture_is_refused(lengths: tuple[int, ...], weights: tuple[float, ...] | None) -> None:
    with pytest.raises(UsageError):
        Mixture(lengths, weights)
