"""NVIDIA's parser and builder judge the file here; without them the record says why not."""

from __future__ import annotations

import importlib.util

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from datk.depth.io_spec import DepthKind, contract_for
from datk.targets.jetson import nvidia

H, W = 6, 8
needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")


def contract(size=(H, W)):
    return contract_for(input_size=size, depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision="int8")


def write_model(path, *, zero_point):
    """uint8 -> half -> Q/DQ -> sum over channels -> float32 depth."""
    node = helper.make_node
    constants = {"s": np.float16(0.5), "z": np.int8(zero_point), "axes": np.array([3])}
    graph = helper.make_graph(
        [
            node("Cast", ["image"], ["h"], to=TensorProto.FLOAT16),
            node("QuantizeLinear", ["h", "s", "z"], ["q"], name="some.layer/QuantizeLinear_1"),
            node("DequantizeLinear", ["q", "s", "z"], ["d"], name="some.layer/DequantizeLinear_2"),
            node("ReduceSum", ["d", "axes"], ["r"], keepdims=0),
            node("Cast", ["r"], ["depth"], to=TensorProto.FLOAT),
        ],
        "toy",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, H, W, 3])],
        [helper.make_tensor_value_info("depth", TensorProto.FLOAT, [1, H, W])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@needs_rtx
def test_a_symmetric_graph_builds_without_a_gpu_and_in_silence(tmp_path, capfd):
    record = nvidia.check_rtx_build(write_model(tmp_path / "m.onnx", zero_point=0), contract())
    assert record["status"] == "passed" and record["engine_bytes"] > 0
    assert record["compute_capabilities"] == ["SM86"] and "not a Jetson" in record["detail"]
    assert capfd.readouterr() == ("", "")


@needs_rtx
def test_parser_errors_are_passed_on_with_the_node_they_name(tmp_path):
    record = nvidia.check_rtx_build(write_model(tmp_path / "m.onnx", zero_point=-127), contract())
    assert record["status"] == "failed" and record["detail"].startswith("parse: ")
    assert "some.layer/QuantizeLinear_1" in record["detail"] and "zero" in record["detail"].lower()


@needs_rtx
def test_an_engine_with_other_edges_than_the_contract_fails(tmp_path):
    record = nvidia.check_rtx_build(write_model(tmp_path / "m.onnx", zero_point=0), contract((14, 28)))
    assert record["status"] == "failed" and "the contract says" in record["detail"]


@needs_rtx
def test_a_file_that_is_no_model_fails(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    assert nvidia.check_rtx_build(tmp_path / "m.onnx", contract())["status"] == "failed"


def test_without_tensorrt_rtx_the_record_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    record = nvidia.check_rtx_build(tmp_path / "m.onnx", contract())
    assert record["status"] == "not_measured" and 'pip install "datk[jetson]"' in record["detail"]


def test_without_tensorrt_the_engine_is_not_measured_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    record = nvidia.check_engine(tmp_path / "build_and_check.py")
    assert record["status"] == "not_measured" and "JetPack" in record["detail"]


def test_where_tensorrt_is_the_device_script_itself_is_the_judge(tmp_path, monkeypatch):
    """A stand-in script: its JSON becomes the check record, and a crash a failed one."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    script = tmp_path / "build_and_check.py"
    script.write_text(
        'import sys, pathlib\npathlib.Path(sys.argv[2]).write_text(\'{"status": "passed", "detail": "x"}\')'
    )
    assert nvidia.check_engine(script) == {"status": "passed", "detail": "x"}
    assert [p.name for p in tmp_path.iterdir()] == ["build_and_check.py"]
    script.write_text("raise SystemError('driver lost')")
    record = nvidia.check_engine(script)
    assert record["status"] == "failed" and "driver lost" in record["detail"]
