"""Tiny artifacts for real runtimes, written with their own libraries: the map is the picture's mean over colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datk.artifact.files import sha256_file
from datk.depth.io_spec import DepthKind, contract_for
from datk.farm.inventory import Device
from datk.farm.job import Inputs, Job, Part, Timing

SIZE = (14, 28)


def write_onnx(path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    h, w = SIZE
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["depth"], axes=[3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, h, w, 3])],
        [helper.make_tensor_value_info("depth", TensorProto.FLOAT, [1, h, w])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def write_tflite(path: Path) -> None:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as s

    h, w = SIZE

    def tensor(name: str, shape: list[int], kind: int, buffer: int = 0) -> s.TensorT:
        made = s.TensorT()
        made.name, made.shape, made.type, made.buffer = name, shape, kind, buffer
        return made

    def operator(code: int, inputs: list[int], outputs: list[int], options: object, kind: int) -> s.OperatorT:
        made = s.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = code, inputs, outputs
        made.builtinOptions, made.builtinOptionsType = options, kind
        return made

    def code(number: int) -> s.OperatorCodeT:
        made = s.OperatorCodeT()
        made.builtinCode = made.deprecatedBuiltinCode = number
        made.version = 1
        return made

    cast = s.CastOptionsT()
    cast.inDataType, cast.outDataType = s.TensorType.UINT8, s.TensorType.FLOAT32
    graph = s.SubGraphT()
    graph.tensors = [
        tensor("image", [1, h, w, 3], s.TensorType.UINT8),
        tensor("float", [1, h, w, 3], s.TensorType.FLOAT32),
        tensor("axis", [1], s.TensorType.INT32, 1),
        tensor("depth", [1, h, w], s.TensorType.FLOAT32),
    ]
    graph.operators = [
        operator(0, [0], [1], cast, s.BuiltinOptions.CastOptions),
        operator(1, [1, 2], [3], s.ReducerOptionsT(), s.BuiltinOptions.ReducerOptions),
    ]
    graph.inputs, graph.outputs = [0], [3]
    axis = s.BufferT()
    axis.data = list(np.array([3], "<i4").tobytes())
    model = s.ModelT()
    model.version = 3
    model.operatorCodes = [code(s.BuiltinOperator.CAST), code(s.BuiltinOperator.MEAN)]
    model.subgraphs, model.buffers = [graph], [s.BufferT(), axis]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "onnxruntime": (".onnx", write_onnx),
    "litert": (".tflite", write_tflite),
}


def write_inputs(path: Path, n: int = 3) -> Inputs:
    images = np.random.default_rng(0).integers(0, 256, (n, *SIZE, 3), dtype=np.uint8)
    np.save(path, images)
    return Inputs(path=str(path), sha256=sha256_file(path), n=n, bytes=path.stat().st_size)


def make_job(
    folder: Path, device: Device, *, runtime: str = "onnxruntime", baseline: bool = False, salt: str = "", n: int = 3
) -> Job:
    suffix, write = WRITERS[runtime]
    path = folder / f"model{suffix}"
    if not path.exists():
        write(path)
    contract = contract_for(input_size=SIZE, depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision="fp32")
    parts = tuple(
        Part(
            role=role,
            name=f"{runtime}-fp32",
            path=str(path),
            sha256=sha256_file(path),
            bytes=path.stat().st_size,
            contract=contract,
        )
        for role in (("candidate", "baseline") if baseline else ("candidate",))
    )
    inputs = write_inputs(folder / "inputs.npy", n)
    timing = Timing(warmup=1, rounds=2, runs=2)
    return Job(device=device, runtime=runtime, parts=parts, inputs=inputs, timing=timing, salt=salt)


@pytest.fixture
def local(tmp_path: Path) -> Device:
    """This machine, in a folder of the test's own."""
    return Device(name="here", kind="local", root=str(tmp_path / "device"), threads=1)


@pytest.fixture
def simulated() -> Device:
    return Device(name="sim", kind="simulated")
