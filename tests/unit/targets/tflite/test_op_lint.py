"""Every rule of the GPU delegate: a tiny file that trips it, and one beside it that does not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from datk.depth.io_spec import DepthKind, contract_for
from datk.errors import TargetError
from datk.targets import get
from datk.targets.op_lint import LintRequest, record
from datk.targets.tflite import op_rules
from datk.targets.tflite.op_lint import lint

_spec = importlib.util.spec_from_file_location("tiny_tflite", Path(__file__).with_name("tiny.py"))
tiny = importlib.util.module_from_spec(_spec)
sys.modules["tiny_tflite"] = tiny
_spec.loader.exec_module(tiny)
T, Op, ints, write = tiny.T, tiny.Op, tiny.ints, tiny.write

SIZE = (14, 28)
CONTRACT = contract_for(input_size=SIZE, depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision="fp32")
IMAGE = T("image", (1, *SIZE, 3), "uint8")
X, Y = T("x", (1, 4, 6, 3)), T("y", (1, 4, 6, 3))
DEEP = T("deep", (1, 2, 2, 6, 3))


def resize(**both):
    return Op("RESIZE_BILINEAR", (X, ints("size", 8, 12)), (T("y", (1, 8, 12, 3)),), ("ResizeBilinear", both))


def mean(x, axes, y, *, keep):
    return Op("MEAN", (x, ints("axes", *axes)), (y,), ("Reducer", {"keepDims": keep}))


def add(one, other, y):
    return Op("ADD", (one, other), (y,), ("Add", {}))


CASES = [
    (op_rules.CUSTOM, Op("CUSTOM", (X,), (Y,)), Op("RELU", (X,), (Y,))),
    (op_rules.OP, Op("GATHER_ND", (X, ints("i", 0, 0, shape=(1, 2))), (Y,)), Op("GELU", (X,), (Y,), ("Gelu", {}))),
    (op_rules.OP, Op("BROADCAST_TO", (X, ints("s", 1, 4, 6, 3)), (Y,)), add(X, T("c", (1,)), Y)),
    (
        op_rules.RANK,
        Op("RESHAPE", (X, ints("s", *DEEP.shape)), (DEEP,), ("Reshape", {})),
        Op("RESHAPE", (X, ints("s", 1, 24, 3)), (T("y", (1, 24, 3)),), ("Reshape", {})),
    ),
    (
        op_rules.TYPE,
        Op("MUL", (T("n", (4,), "int64"), T("m", (4,), "int64")), (T("o", (4,), "int64"),), ("Mul", {})),
        Op("MUL", (T("n", (4,), "int8", scale=0.1), T("m", (4,), "int8", scale=0.1)),
           (T("o", (4,), "int8", scale=0.1),), ("Mul", {})),
    ),
    (
        op_rules.EDGE,
        Op("CAST", (IMAGE,), (T("y", IMAGE.shape),), ("Cast", {})),
        Op("RELU", (X,), (Y,)),
    ),
    (
        op_rules.ARGUMENT,
        resize(alignCorners=True, halfPixelCenters=True),
        resize(alignCorners=True, halfPixelCenters=False),
    ),
    (op_rules.ARGUMENT, add(T("a", (1, 5, 4)), T("b", (5, 4)), T("c", (1, 5, 4))), add(X, T("c", (4, 6, 3)), Y)),
    (
        op_rules.ARGUMENT,
        Op("SOFTMAX", (X,), (Y,), ("Softmax", {"beta": 2.0})),
        Op("SOFTMAX", (X,), (Y,), ("Softmax", {"beta": 1.0})),
    ),
    (
        op_rules.ARGUMENT,
        Op("SLICE", (T("x", (4, 6)), ints("b", 0, 0), ints("s", 2, 2)), (T("y", (2, 2)),), ("Slice", {})),
        Op("SLICE", (X, ints("b", 0, 0, 0, 0), ints("s", 1, 2, 2, 3)), (T("y", (1, 2, 2, 3)),), ("Slice", {})),
    ),
    (
        op_rules.AXIS,
        mean(T("x", (1, 9, 4)), (0, 2), T("y", (9,)), keep=False),
        mean(T("x", (1, 9, 4)), (2,), T("y", (1, 9, 1)), keep=True),
    ),
    (
        op_rules.AXIS,
        mean(T("x", (1, 9, 4)), (2,), T("y", (1, 9)), keep=False),
        mean(T("x", (9, 4)), (1,), T("y", (9,)), keep=False),
    ),
]  # fmt: skip


@pytest.fixture
def look(tmp_path):
    def look(*ops, photos=(), **options):
        path = write(tmp_path / "model.tflite", *ops)
        return lint(LintRequest(artifact=path, contract=CONTRACT, photos=photos, options=SimpleNamespace(**options)))

    return look


@pytest.mark.parametrize(("rule", "bad", "good"), CASES, ids=[f"{r.id}-{b.kind}" for r, b, _ in CASES])
def test_a_rule_names_the_operator_that_breaks_it_and_no_other(look, rule, bad, good):
    found = look(bad).findings
    assert [f.rule.id for f in found] == [rule.id] and found[0].op == bad.kind
    assert bad.makes[0].name in found[0].where
    assert look(good).findings == ()


def pixels_times(factor):
    x = T("x", IMAGE.shape)
    cast = Op("CAST", (IMAGE,), (x,), ("Cast", {"inDataType": 3, "outDataType": 0}))
    return cast, Op("MUL", (x, T("c", (), data=np.float32(factor))), (T("large", x.shape),), ("Mul", {}))


def test_a_value_too_large_for_float16_is_found_by_running_the_file(look):
    white = [np.full((*SIZE, 3), 255, np.uint8)]
    grey = [np.full((*SIZE, 3), 100, np.uint8)]
    found = {f.rule.id: f for f in look(*pixels_times(100), photos=white).findings}
    assert found[op_rules.HALF.id].said == "reaches 2.55e+04" and found[op_rules.HALF.id].op == "MUL"
    assert [f.rule.id for f in look(*pixels_times(100), photos=grey).findings] == [op_rules.EDGE.id]
    assert look(*pixels_times(1e38), photos=white).findings[-1].said == "reaches inf"


def test_without_photographs_the_range_is_not_claimed(look):
    said = record(look(*pixels_times(100)))
    assert "no photographs" in said["not_measured"][op_rules.HALF.id] and "not measured" in said["detail"]


def test_advice_passes_what_a_gpu_file_promises_fails(look):
    bad = Op("BROADCAST_TO", (X, ints("s", 1, 4, 6, 3)), (Y,))
    advice, promised = record(look(bad)), record(look(bad, gpu=True))
    assert (advice["status"], advice["findings"][0]["severity"]) == ("passed", "advice")
    assert (promised["status"], promised["findings"][0]["severity"]) == ("failed", "error")
    assert record(look(Op("CUSTOM", (X,), (Y,))))["status"] == "failed"


def test_a_record_tells_where_why_and_what_removes_it(look):
    said = record(look(Op("CAST", (IMAGE,), (T("y", IMAGE.shape),), ("Cast", {})), *CASES[0][1:2]))
    assert [f["rule"] for f in said["findings"]] == ["tflite-custom-op", "tflite-gpu-edge"]
    for finding in said["findings"]:
        assert finding["where"] and finding["why"] and finding["rewrite"] and finding["source"] and finding["device"]
    assert said["operators"] == 2 and set(said["rules"]) == {r.id for r in op_rules.RULES}


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"no flatbuffer at all")
    with pytest.raises(TargetError, match="TFL3"):
        get("tflite").load(get("tflite").op_lint)(LintRequest(artifact=tmp_path / "model.tflite", contract=CONTRACT))
