"""Boundary F1 and recall: invariances, limits, and a plain double loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datk.evaluate.boundary import THRESHOLDS, boundary_f1, boundary_recall

SEEDS = st.integers(0, 2**32 - 1)


def blocks(seed: int) -> np.ndarray:
    return np.kron(np.random.default_rng(seed).uniform(1, 4, (4, 5)), np.ones((3, 3)))


@given(SEEDS, st.floats(0.01, 100))
def test_a_perfect_map_scores_one_whatever_its_scale(seed: int, factor: float) -> None:
    depth = blocks(seed)
    assert boundary_f1(factor * depth, depth) == pytest.approx(1.0)


@given(SEEDS)
def test_a_flat_map_scores_zero_and_a_flat_truth_is_undefined(seed: int) -> None:
    depth = blocks(seed)
    assert boundary_f1(np.ones(depth.shape), depth) == 0
    assert math.isnan(boundary_f1(depth, np.ones(depth.shape)))


@given(SEEDS)
def test_f1_equals_a_plain_double_loop_over_neighbours(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, pred = blocks(seed), blocks(seed) * rng.uniform(0.9, 1.1, (12, 15))
    valid = rng.random((12, 15)) > 0.1
    total = weight = 0.0
    for t in THRESHOLDS:
        tp = said = there = 0
        for i in range(12):
            for j in range(15):
                for a, b in ((i, j + 1), (i, j - 1), (i + 1, j), (i - 1, j)):
                    if 0 <= a < 12 and 0 <= b < 15 and valid[i, j] and valid[a, b]:
                        p, g = pred[a, b] / pred[i, j] > 1 + t, truth[a, b] / truth[i, j] > 1 + t
                        tp, said, there = tp + (p and g), said + p, there + g
        if there:
            total, weight = total + t * (2 * tp / (said + there)), weight + t
    assert boundary_f1(pred, truth, valid) == pytest.approx(total / weight, abs=1e-12)


def test_recall_asks_only_from_the_object_to_what_is_behind_it() -> None:
    hair = np.zeros((9, 9), bool)
    hair[3:6, 3:6] = True
    assert boundary_recall(np.where(hair, 1.0, 2.0), hair) == 1.0
    assert boundary_recall(np.where(hair, 2.0, 1.0), hair) == 0.0  # the object behind its background
    assert math.isnan(boundary_recall(np.ones((9, 9)), np.zeros((9, 9), bool)))
