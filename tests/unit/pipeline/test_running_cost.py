"""What running one artifact needs, measured alone in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from datk.depth.io_spec import Contract, DepthKind, contract_for
from datk.pipeline.running_cost import running_cost
from datk.targets import get
from datk.targets.onnx.profile import times_from_events

SIZE = (28, 42)
WEIGHT_MB = 48


def contract(precision: str = "fp32") -> Contract:
    return contract_for(input_size=SIZE, depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision=precision)


@pytest.fixture
def heavy(tmp_path: Path) -> Path:
    """uint8 image -> float map, past a matrix of 48 MB."""
    side = int((WEIGHT_MB * 1e6 / 4) ** 0.5)
    n = SIZE[0] * SIZE[1]
    weights = {
        "shape": np.array([1, 3 * n], np.int64),
        "some": np.full((3 * n, side), 1e-3, np.float32),
        "many": np.full((side, side), 1e-3, np.float32),
        "back": np.full((side, n), 1e-3, np.float32),
        "out": np.array([1, *SIZE], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["f", "shape"], ["v"]),
        helper.make_node("MatMul", ["v", "some"], ["a"]),
        helper.make_node("MatMul", ["a", "many"], ["b"]),
        helper.make_node("MatMul", ["b", "back"], ["c"]),
        helper.make_node("Reshape", ["c", "out"], ["depth"]),
    ]
    graph = helper.make_graph(
        nodes,
        "heavy",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, (1, *SIZE, 3))],
        [helper.make_tensor_value_info("depth", TensorProto.FLOAT, (1, *SIZE))],
        [onnx.numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    path = tmp_path / "heavy.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_peak_memory_holds_the_weights_and_a_float_net_spends_its_time_in_floats(heavy: Path) -> None:
    cost = running_cost(get("onnx"), heavy, contract(), np.zeros((*SIZE, 3), np.uint8))
    memory, share = cost.metrics["peak_memory_bytes"].value, cost.metrics["float_time_share"].value
    assert memory is not None and WEIGHT_MB * 1e6 < memory < 20 * WEIGHT_MB * 1e6
    assert share is not None and share > 0.99
    assert cost.metrics["convert_time_share"].value == 0
    assert "MatMul" in cost.op_ms


def test_an_artifact_that_does_not_open_there_is_a_record_with_the_reason(tmp_path: Path) -> None:
    cost = running_cost(get("onnx"), tmp_path / "none.onnx", contract(), np.zeros((*SIZE, 3), np.uint8))
    for name in ("peak_memory_bytes", "float_time_share", "convert_time_share"):
        assert "no such file" in str(cost.metrics[name].not_measured)


def node(op: str, dur: float, takes: str, gives: str, name: str = "") -> dict:
    shapes = {"input_type_shape": [{takes: [1, 3]}], "output_type_shape": [{gives: [1, 3]}]}
    return {"cat": "Node", "name": f"{name or op}_kernel_time", "dur": dur, "args": {"op_name": op, **shapes}}


def test_operator_time_is_sorted_by_what_it_computes_in_and_the_first_run_left_out() -> None:
    run = [
        node("QLinearConv", 600, "uint8", "uint8"),
        node("QuantizeLinear", 100, "float", "uint8"),
        node("Softmax", 250, "float", "float"),
        node("Transpose", 50, "uint8", "uint8"),
    ]
    first = [node(n["args"]["op_name"], 9e9, "float", "float") for n in run]
    fence = {"cat": "Session", "name": "model_run", "dur": 5000, "args": {}}
    times = times_from_events([fence, *first, fence, *run, fence, *run], runs=2, artifact=Path("x.onnx"))
    assert {k: round(times.share(k), 6) for k in ("integer", "convert", "float", "move")} == {
        "integer": 0.6, "convert": 0.1, "float": 0.25, "move": 0.05,
    }  # fmt: skip
    assert times.total_ms == pytest.approx(1.0) and times.by_op["QLinearConv"] == pytest.approx(0.6)
