"""Kappas equal those of others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from datk.bench_builder.agreement import cohen_kappa, fleiss_kappa

Label = st.sampled_from("fsub")


@given(st.lists(st.tuples(Label, Label), min_size=1, max_size=40))
def test_cohens_kappa_equals_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    ours = cohen_kappa(pairs)
    if len({label for pair in pairs for label in pair}) == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(cohen_kappa_score(*zip(*pairs, strict=True)), abs=1e-12)


def test_fleiss_kappa_equals_the_worked_example_of_1971() -> None:
    """Ten subjects, fourteen raters, five categories: 0.210 (the example reprinted in most textbooks)."""
    table = ["00 0 0 0 14", "0 2 6 4 2", "0 0 3 5 6", "0 3 9 2 0", "2 2 8 1 1", "7 7 0 0 0", "3 2 6 3 0",
             "2 5 3 2 2", "6 5 2 1 0", "0 2 2 3 7"]  # fmt: skip
    items = [[k for k, n in enumerate(row.split()) for _ in range(int(n))] for row in table]
    assert fleiss_kappa(items) == pytest.approx(0.210, abs=5e-4)


@given(st.lists(st.lists(Label, min_size=3, max_size=3), min_size=1, max_size=30))
def test_fleiss_kappa_is_one_only_for_whole_agreement(items: list[list[str]]) -> None:
    kappa = fleiss_kappa(items)
    if kappa is not None:
        assert kappa <= 1 and (kappa == pytest.approx(1)) == all(len(set(item)) == 1 for item in items)


def test_no_items_or_no_variety_give_no_figure() -> None:
    assert cohen_kappa([]) is None and fleiss_kappa([]) is None
    assert fleiss_kappa(["fff", "fff"]) is None


def test_items_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="same number"):
        fleiss_kappa(["ff", "fff"])
