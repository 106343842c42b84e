"""A file's int8 layers against the program's: what is off is named as the program names it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datk.targets.int8_layers import Int8Layer, differing
from datk.targets.int8_record import Int8Findings

rng = np.random.default_rng(0)
MEANT = [
    Int8Layer(name, rng.normal(0, 1, shape).astype(np.float32), 0.01 * (i + 1))
    for i, (name, shape) in enumerate([("qkv", (48, 16)), ("proj", (16, 16)), ("fc1", (64, 16)), ("other", (16, 16))])
]


def in_file(order=(3, 1, 0, 2)) -> list[Int8Layer]:
    """Renamed, reordered, scales rounded to half precision, as converters leave them."""
    return [
        Int8Layer(f"op{i}", (MEANT[i].weight * np.float32(1.0004)).astype(np.float32), MEANT[i].input_scale)
        for i in order
    ]


@given(st.permutations(range(4)))
def test_renamed_and_reordered_layers_are_the_same(order):
    assert differing(in_file(tuple(order)), MEANT) == []


@given(st.integers(0, 3), st.floats(1.2, 8.0) | st.floats(0.1, 0.8), st.booleans())
def test_one_wrong_scale_is_named(which, factor, of_weights):
    found = in_file((0, 1, 2, 3))
    wrong = found[which]
    changed = (
        {"weight": wrong.weight * np.float32(factor)} if of_weights else {"input_scale": wrong.input_scale * factor}
    )
    found[which] = replace(wrong, **changed)
    (said,) = differing(found, MEANT)
    assert said.startswith(f"{MEANT[which].name}: ") and "times the program" in said


def test_one_output_channel_with_twice_its_scale_is_enough():
    found = in_file((0, 1, 2, 3))
    weight = found[2].weight.copy()
    weight[5] *= 2
    found[2] = replace(found[2], weight=weight)
    assert differing(found, MEANT) == ["fc1: weights are 2 times the program's"]


def test_weights_of_no_layer_are_named_as_the_file_names_them():
    found = [Int8Layer("op9", rng.normal(0, 1, (48, 16)).astype(np.float32), 0.01)]
    assert differing(found, MEANT) == ["op9: its weights are those of no layer of the program"]


def test_record_tells_each_kind_of_problem_once_and_counts():
    good = Int8Findings(meant=2, int8_ops={"MatMul": 2}, float_ops={"Conv": 1}, int8_weight_bytes=9).record()
    assert good["status"] == "passed" and good["problems"] == {}
    bad = Int8Findings(
        meant=3,
        int8_ops={"MatMul": 2},
        float_ops={},
        int8_weight_bytes=9,
        not_int8=["fc1"],
        fragile=[f"add{i}" for i in range(9)],
    ).record()
    assert bad["status"] == "failed"
    assert "1 of 3 layers meant for int8" in bad["detail"] and "add5 and 3 more" in bad["detail"]
    assert bad["problems"]["fragile"] == [f"add{i}" for i in range(9)]
    empty = Int8Findings(meant=0, int8_ops={}, float_ops={}, int8_weight_bytes=0).record()
    assert empty["status"] == "failed" and "no layer runs in int8" in empty["detail"]


@pytest.mark.parametrize("dead", [0, 7])
def test_a_dead_channel_is_no_evidence(dead):
    meant = [replace(MEANT[0], weight=np.delete(MEANT[0].weight, dead, 0))]
    padded = np.insert(meant[0].weight, dead, 0, axis=0)
    found = padded.copy()
    found[dead] = 1e-6
    assert differing([Int8Layer("x", found, 0.01)], [Int8Layer("qkv", padded, 0.01)]) == []
