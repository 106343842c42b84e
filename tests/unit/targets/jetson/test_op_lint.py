"""Every rule on TensorRT and on ONNX files: a graph that trips it, and one beside it that does not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from datk.depth.io_spec import DepthKind, contract_for
from datk.errors import TargetError
from datk.targets.jetson import op_rules as trt
from datk.targets.jetson.op_lint import lint as lint_for_tensorrt
from datk.targets.onnx import op_rules as ort
from datk.targets.onnx.op_lint import lint as lint_onnx
from datk.targets.op_lint import LintRequest, record

FLOAT, HALF, DOUBLE, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8


def contract(precision="fp16"):
    return contract_for(input_size=(4, 6), depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision=precision)


def write(path, *nodes, shape=(1, 3, 4, 6), kind=FLOAT, **constants):
    """A graph from `x` to the last node's output."""
    made = [helper.make_node(op, list(reads), list(makes), name=f"{op}.0", **more) for op, reads, makes, more in nodes]
    graph = helper.make_graph(
        made, "tiny",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(nodes[-1][2][0], TensorProto.UNDEFINED, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def node(op, reads="x", makes="y", **more):
    return (op, reads.split(), makes.split(), more)


@pytest.fixture
def look(tmp_path):
    def look(lint, *nodes, checks=None, **graph):
        path = write(tmp_path / "model.onnx", *nodes, **graph)
        return lint(LintRequest(artifact=path, contract=contract(), checks=checks or {})).findings

    return look


SIZES = {"sizes": np.array([1, 3, 8, 12])}
ONE = {"s": np.float32(0.1), "w": np.zeros((6, 6), np.float32)}
TENSORRT = [
    (trt.OP, [node("Det")], [node("Relu")], {"shape": (4, 4)}),
    (trt.FOREIGN, [node("Gelu", domain="com.microsoft")], [node("Gelu")], {}),
    (trt.EINSUM, [node("Einsum", "x x", equation="bchw,bchw->bchw")], [node("Mul", "x x")], {}),
    (
        trt.ANTIALIAS,
        [node("Resize", "x r q sizes", mode="linear", antialias=1)],
        [node("Resize", "x r q sizes", mode="linear", coordinate_transformation_mode="align_corners")],
        SIZES,
    ),
    (trt.CUBIC, [node("Resize", "x r q sizes", mode="cubic")], [node("Resize", "x r q sizes", mode="linear")], SIZES),
    (trt.ZERO_POINT, [node("QuantizeLinear", "x s z")], [node("QuantizeLinear", "x s n")],
     {**ONE, "z": np.int8(-127), "n": np.int8(0)}),
    (
        trt.ENCODER,
        [node("QuantizeLinear", "x s", "q"), node("DequantizeLinear", "q s", "d"), node("MatMul", "d w")],
        [node("MatMul", "x w")],
        ONE,
    ),
    (
        trt.LAYER_NORM,
        [node("Mul", "x x", "q"), node("ReduceMean", "q")],
        [node("Relu", "x", "q"), node("ReduceMean", "q")],
        {"kind": HALF},
    ),
    (trt.RANK, [node("Reshape", "x deep")], [node("Reshape", "x flat")],
     {"deep": np.array([1, 3, 4, 6, 1, 1, 1, 1, 1]), "flat": np.array([1, 72])}),
    (trt.DOUBLE, [node("Cast", to=DOUBLE)], [node("Cast", to=HALF)], {}),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "bad", "good", "graph"), TENSORRT, ids=[c[0].id for c in TENSORRT])
def test_a_rule_on_tensorrt_names_the_node_that_breaks_it_and_no_other(look, rule, bad, good, graph):
    found = look(lint_for_tensorrt, *_blank(bad), **graph)
    assert [(f.rule.id, f.op, f.where) for f in found] == [(rule.id, bad[-1][0], f"{bad[-1][0]}.0")]
    assert look(lint_for_tensorrt, *_blank(good), **graph) == ()


def _blank(nodes):
    """r and q of a Resize are its absent inputs."""
    return [(op, ["" if op == "Resize" and n in "rq" else n for n in reads], *rest) for op, reads, *rest in nodes]


def test_a_side_that_is_no_number_is_found_for_both(look):
    for lint, rule in ((lint_for_tensorrt, trt.DYNAMIC), (lint_onnx, ort.DYNAMIC)):
        assert [f.rule.id for f in look(lint, node("Relu"), shape=(1, 3, "height", 6))] == [rule.id]
        assert look(lint, node("Relu")) == ()


def test_rules_on_onnx_files(look):
    assert [f.rule.id for f in look(lint_onnx, node("Gelu", domain="com.microsoft"))] == [ort.FOREIGN.id]
    deep = {"deep": np.array([1, 3, 4, 6, 1, 1]), "flat": np.array([1, 72])}
    assert [f.rule.id for f in look(lint_onnx, node("Reshape", "x deep"), **deep)] == [ort.RANK.id]
    assert look(lint_onnx, node("Reshape", "x flat"), **deep) == ()
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["b"])], "b", [],
        [helper.make_tensor_value_info("b", FLOAT, (1, 3, 4, 6))],
    )  # fmt: skip
    flow = node("If", "c", then_branch=branch, else_branch=branch)
    assert [f.rule.id for f in look(lint_onnx, flow, c=np.bool_(True))] == [ort.FLOW.id]


def test_the_range_the_build_measured_becomes_a_finding_with_its_rewrite(look):
    failed = {"status": "failed", "detail": "y reaches 70000", "largest": 70000.0, "largest_tensor": "y"}
    (found,) = look(lint_for_tensorrt, node("Relu", makes="y.half"), checks={"fp16-range": failed}, kind=HALF)
    assert (found.rule.id, found.op, found.where) == (trt.HALF.id, "Relu", "y") and "70000" in found.said
    assert look(lint_for_tensorrt, node("Relu"), checks={"fp16-range": {"status": "passed", "detail": ""}}) == ()


def test_a_value_too_large_for_float16_is_found_by_running_an_fp16_file(tmp_path):
    nodes = [node("Cast", "image", "f", to=HALF), node("Mul", "f k", "large"), node("Cast", "large", "depth", to=FLOAT)]
    made = [helper.make_node(op, r, m, **more) for op, r, m, more in nodes]
    graph = helper.make_graph(
        made, "tiny", [helper.make_tensor_value_info("image", UINT8, (1, 4, 6, 3))],
        [helper.make_tensor_value_info("depth", FLOAT, (1, 4, 6, 3))],
        [numpy_helper.from_array(np.float16(1000), "k")],
    )  # fmt: skip
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)

    def said(level, precision="fp16"):
        photos = [np.full((4, 6, 3), level, np.uint8)]
        return lint_onnx(LintRequest(artifact=path, contract=contract(precision), photos=photos))

    assert {f.said for f in said(100).findings} == {"reaches inf"}
    assert said(10).findings == ()
    assert record(said(100, "fp32"))["not_measured"] == {ort.HALF.id: "an fp32 file computes in float32"}


def test_advice_passes_and_what_tensorrt_refuses_fails(tmp_path):
    refused = write(tmp_path / "model.onnx", node("Det"), shape=(4, 4))
    assert record(lint_for_tensorrt(LintRequest(artifact=refused, contract=contract())))["status"] == "failed"
    slow = write(tmp_path / "model.onnx", *_blank(TENSORRT[6][1]), **ONE)
    assert record(lint_for_tensorrt(LintRequest(artifact=slow, contract=contract())))["status"] == "passed"


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"\xff no protobuf")
    with pytest.raises(TargetError, match="cannot be read as ONNX"):
        lint_for_tensorrt(LintRequest(artifact=tmp_path / "model.onnx", contract=contract()))


@pytest.mark.slow
def test_the_table_is_what_nvidias_parser_says():
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed")
    program = (
        "import tensorrt_rtx as trt, onnx; n = trt.Builder(trt.Logger(trt.Logger.ERROR)); "
        "p = trt.OnnxParser(n.create_network(0), trt.Logger(trt.Logger.ERROR)); "
        "print(*sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == '' and "
        "not p.supports_operator(s.name)}))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) == trt.REFUSED
