"""The engine is built for real, on this CPU; running it is tested with a stand-in named `simulated`."""

from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from datk.depth.io_spec import DepthKind, contract_for
from datk.errors import DataError, EnvironmentLacks, TargetError
from datk.evaluate.gates import default_gates
from datk.targets import get
from datk.targets.rtx import here
from datk.targets.rtx.build import compile_engine
from datk.targets.rtx.runner import open_artifact
from datk.targets.rtx.twin import LEAST, check_twin
from tests.unit.targets.rtx.simulated import EngineInvalidityDiagnostics, Gpu

H, W = 14, 28
TENSORS = [["image", "UINT8", [1, H, W, 3]], ["depth", "FLOAT", [1, H, W]]]
needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")


def contract():
    return contract_for(input_size=(H, W), depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision="fp16")


def write_model(path, *, mode="ReduceSum"):
    """uint8 -> float32 -> reduced over the colours."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["h"], to=TensorProto.FLOAT),
            helper.make_node(mode, ["h", "axes"], ["depth"], keepdims=0),
        ],
        "toy",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, H, W, 3])],
        [helper.make_tensor_value_info("depth", TensorProto.FLOAT, [1, H, W])],
        [onnx.numpy_helper.from_array(np.array([3]), "axes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


class Sum(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().sum(-1)  # (1, h, w)


def photos(count):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (H, W, 3), dtype=np.uint8) for _ in range(count)]


@pytest.fixture
def gpu(monkeypatch):
    here.not_here.cache_clear()
    device = Gpu()
    device.install(monkeypatch)
    yield device
    here.not_here.cache_clear()


def write_engine(path, **more):
    path.write_text(json.dumps({"tensors": TENSORS, **more}), encoding="utf-8")
    return path


# --- built ahead of time, for real ------------------------------------------------------------------------------------


@needs_rtx
def test_one_engine_for_every_gpu_is_built_without_one_and_repeats_its_bytes(tmp_path, capfd):
    source = write_model(tmp_path / "m.onnx")
    said = compile_engine(source, tmp_path / "a.rtx")
    compile_engine(source, tmp_path / "b.rtx")
    assert said["compute_capabilities"] == here.capabilities() and "SM75" in said["compute_capabilities"]
    assert (tmp_path / "a.rtx").read_bytes() == (tmp_path / "b.rtx").read_bytes()
    assert (tmp_path / "a.rtx").stat().st_size == said["engine_bytes"]
    fewer = compile_engine(source, tmp_path / "c.rtx", ("SM75", "SM80"))
    assert fewer["compute_capabilities"] == [c for c in here.capabilities() if c not in ("SM75", "SM80")]
    assert capfd.readouterr() == ("", "")


@needs_rtx
def test_what_nvidias_builder_refuses_is_told_in_its_words_and_leaves_no_file(tmp_path):
    source = write_model(tmp_path / "m.onnx", mode="NoSuchOperator")
    with pytest.raises(TargetError, match="NoSuchOperator"):
        compile_engine(source, tmp_path / "a.rtx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


# --- where it cannot be run -------------------------------------------------------------------------------------------


@needs_rtx
def test_without_a_driver_the_reason_is_cudas_own_and_opening_ends_with_exit_4(tmp_path):
    """NVIDIA's real bindings on a machine without its driver."""
    pytest.importorskip("cuda.bindings", reason="cuda-bindings are not installed")
    here.not_here.cache_clear()
    reason = get("rtx").cannot_run()
    if not reason:
        pytest.skip("this machine has a GPU that runs engines")
    assert "CUDA" in reason
    with pytest.raises(EnvironmentLacks) as told:
        get("rtx").open(write_engine(tmp_path / "m.rtx"), contract())
    assert told.value.exit_code == 4 and f"m.rtx cannot be run on this machine: {reason}" in told.value.message


def test_the_reason_names_what_is_missing(gpu, monkeypatch):
    assert get("rtx").cannot_run() == ""
    for change, said in (
        ({"count": 0}, "no NVIDIA GPU here"),
        ({"capability": (9, 0)}, "Simulated GPU is SM90, and TensorRT-RTX builds for SM86, SM89"),
        ({"refuses": "cudaGetDeviceCount"}, "CUDA says cudaErrorMemoryAllocation"),
        ({"refuses": "cudaGetDeviceProperties"}, "cannot tell what GPU"),
    ):
        here.not_here.cache_clear()
        Gpu(**change).install(monkeypatch)
        assert said in get("rtx").cannot_run()
    here.not_here.cache_clear()
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert 'pip install "datk[rtx]"' in get("rtx").cannot_run()


# --- where it can, with the stand-in `simulated` ----------------------------------------------------------------------


def test_an_engine_answers_for_the_picture_it_was_given(gpu, tmp_path):
    runner = get("rtx").open(write_engine(tmp_path / "m.rtx"), contract())
    first, second = photos(2)
    depth = runner.predict(first)
    assert depth.dtype == np.float32 and depth.shape == (H, W) and runner.label == "tensorrt-rtx-gpu"
    np.testing.assert_array_equal(depth, 2.0 * first[..., 0] + first[..., 2])
    runner.predict(second)
    np.testing.assert_array_equal(depth, 2.0 * first[..., 0] + first[..., 2], "an earlier answer is overwritten")
    np.testing.assert_array_equal(runner.predict(first[:, ::-1]), depth[:, ::-1], "a view with other strides")
    with pytest.raises(DataError, match="expected a uint8 RGB image"):
        runner.predict(first.astype(np.float32))
    runner.close()
    runner.close()
    assert not gpu.memory and not gpu.streams
    with pytest.raises(TargetError, match="closed"):
        runner.predict(first)


@pytest.mark.parametrize(
    "call", ["cudaSetDevice", "cudaStreamCreate", "cudaMalloc", "cudaMemcpyAsync", "cudaStreamSynchronize"]
)
def test_what_cuda_refuses_is_told_in_its_words_and_nothing_stays_allocated(gpu, tmp_path, call):
    gpu.refuses = call
    runner = None
    with pytest.raises(TargetError, match=r"CUDA refused: out of memory"):
        runner = open_artifact(write_engine(tmp_path / "m.rtx"), contract())
        runner.predict(photos(1)[0])
    if runner is not None:
        runner.close()
    assert not gpu.memory and not gpu.streams


def test_an_engine_of_another_gpu_version_or_export_is_refused_by_name(gpu, tmp_path):
    against = int(EngineInvalidityDiagnostics.VERSION_MISMATCH | EngineInvalidityDiagnostics.UNSUPPORTED_CC)
    with pytest.raises(TargetError, match="VERSION_MISMATCH, UNSUPPORTED_CC"):
        open_artifact(write_engine(tmp_path / "a.rtx", against=against), contract())
    with pytest.raises(TargetError, match="it is no plan"):
        open_artifact(write_engine(tmp_path / "b.rtx", broken="it is no plan"), contract())
    other = [["image", "UINT8", [1, W, H, 3]], TENSORS[1]]
    with pytest.raises(TargetError, match="its contract says"):
        open_artifact(write_engine(tmp_path / "c.rtx", tensors=other), contract())
    with pytest.raises(DataError, match=r"d\.rtx: cannot be read"):
        open_artifact(tmp_path / "d.rtx", contract())
    assert not gpu.memory and not gpu.streams


def test_a_launch_that_fails_is_no_answer(gpu, tmp_path):
    runner = open_artifact(write_engine(tmp_path / "m.rtx"), contract())
    gpu.launches = False
    with pytest.raises(TargetError, match="did not run it"):
        runner.predict(photos(1)[0])


# --- the twin ---------------------------------------------------------------------------------------------------------


def test_the_twin_is_held_to_the_gates_of_its_precision():
    for precision in get("rtx").precisions:
        gates = default_gates(precision)
        assert LEAST[precision] == (gates.min_median_correlation, gates.min_worst_correlation or 0.0)


def test_a_twin_that_follows_the_net_passes_and_says_that_it_is_not_the_engine(tmp_path):
    record = check_twin(write_model(tmp_path / "m.onnx"), contract(), Sum(), photos(50))
    assert record["status"] == "passed" and record["n_photos"] == 50 and record["judged_by"] == "onnxruntime-cpu"
    assert record["detail"].endswith("not the engine") and record["worst_correlation"] > 0.9999


def test_a_twin_that_computes_something_else_fails_and_few_photographs_prove_nothing(tmp_path):
    wrong = check_twin(write_model(tmp_path / "w.onnx", mode="ReduceMax"), contract(), Sum(), photos(6))
    assert wrong["status"] == "failed" and "needed 0.999" in wrong["detail"]
    few = check_twin(write_model(tmp_path / "m.onnx"), contract(), Sum(), photos(6))
    assert few["status"] == "not_measured" and "at least 50 photographs" in few["detail"]
    assert check_twin(tmp_path / "m.onnx", contract(), None, photos(6))["status"] == "not_measured"
