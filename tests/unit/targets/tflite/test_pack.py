"""Several .tflite files as one: a signature each, equal weights once, the same numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from datk.artifact import verify
from datk.depth.io_spec import Bucket, Contract, DepthKind, contract_for, entry_of
from datk.errors import DataError, TargetError
from datk.pipeline.several_buckets import open_packed
from datk.targets import get
from datk.targets.base import PackRequest
from datk.targets.tflite.flatbuffer import finish, parse, read_metadata, serialise
from datk.targets.tflite.pack import merge, pack

SIZES = ((14, 28), (28, 14), (28, 28))


WEIGHTS = 3 * 32 * 25 + 32


def toy(size: tuple[int, int]) -> bytes:
    """A .tflite file written by hand: (1, h, w, 3) uint8 -> (1, h, w), kilobytes of weights that every size shares and
    one tensor that depends on the size."""
    rng = np.random.default_rng(0)
    constants = {
        "inner": rng.normal(0, 0.1, (32, 5, 5, 3)).astype(np.float32),
        "bias": rng.normal(0, 0.1, 32).astype(np.float32),
        "axis": np.array([3], np.int32),
        "position": np.linspace(0, 1, size[0] * size[1], dtype=np.float32).reshape(1, *size),
    }
    shapes = {"image": (1, *size, 3), "x": (1, *size, 3), "y": (1, *size, 32), "z": (1, *size), "depth": (1, *size)}
    kinds = {np.dtype(np.float32): schema.TensorType.FLOAT32, np.dtype(np.int32): schema.TensorType.INT32}
    names = [*shapes, *constants]
    model = schema.ModelT(version=3, buffers=[schema.BufferT()], operatorCodes=[], subgraphs=[schema.SubGraphT()])
    graph = model.subgraphs[0]
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [0], [names.index("depth")]
    for name in names:
        value = constants.get(name)
        kind = (
            schema.TensorType.UINT8 if name == "image" else kinds[value.dtype if value is not None else np.dtype("f4")]
        )
        shape = list(shapes[name] if value is None else value.shape)
        graph.tensors.append(schema.TensorT(shape=shape, type=kind, name=name.encode(), buffer=0))
        if value is not None:
            graph.tensors[-1].buffer = len(model.buffers)
            model.buffers.append(schema.BufferT(data=np.frombuffer(value.tobytes(), np.uint8)))
    ops, options = schema.BuiltinOperator, schema.BuiltinOptions
    same = schema.Conv2DOptionsT(
        padding=schema.Padding.SAME, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1
    )
    for code, kind, value, inputs, output in (
        (ops.CAST, options.CastOptions, schema.CastOptionsT(), ("image",), "x"),
        (ops.CONV_2D, options.Conv2DOptions, same, ("x", "inner", "bias"), "y"),
        (ops.SUM, options.ReducerOptions, schema.ReducerOptionsT(keepDims=False), ("y", "axis"), "z"),
        (ops.ADD, options.AddOptions, schema.AddOptionsT(), ("z", "position"), "depth"),
    ):
        operator = schema.OperatorT(opcodeIndex=len(model.operatorCodes), outputs=[names.index(output)])
        operator.inputs, operator.builtinOptionsType, operator.builtinOptions = [*map(names.index, inputs)], kind, value
        graph.operators.append(operator)
        model.operatorCodes.append(schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=1))
    edges = [schema.TensorMapT(name=n.encode(), tensorIndex=names.index(n)) for n in ("image", "depth")]
    signature = schema.SignatureDefT(
        inputs=edges[:1], outputs=edges[1:], signatureKey=b"serving_default", subgraphIndex=0
    )
    model.signatureDefs = [signature]
    return serialise(model)


def contract_of(size: tuple[int, int]) -> Contract:
    return contract_for(input_size=size, depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision="fp32")


def packed_contract() -> Contract:
    buckets = tuple(Bucket(input_size=s, folder=".", entry=entry_of(s)) for s in SIZES)
    return contract_of(SIZES[0]).model_copy(update={"buckets": buckets, "artifact": "model.tflite"})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Path]:
    folder = tmp_path_factory.mktemp("alone")
    made = {}
    for size in SIZES:
        contract = contract_of(size)
        text = {"datk.contract": contract.model_dump_json(), "datk.weights_sha256": "0" * 64}
        made[size] = folder / f"{size[0]}x{size[1]}.tflite"
        made[size].write_bytes(finish(toy(size), input_name="image", output_name="depth", metadata=text))
    return made


@pytest.fixture(scope="module")
def packed(alone: dict[tuple[int, int], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed")
    parts = {entry_of(size): path for size, path in alone.items()}
    return pack(PackRequest(parts=parts, contract=packed_contract(), metadata={"who": "test"}, out=out))


def picture(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8)


def test_every_signature_gives_the_numbers_of_the_file_it_came_from(alone, packed) -> None:
    target, contract = get("tflite"), packed_contract()
    for size in SIZES:
        one, entry = target.open(alone[size], contract_of(size)), target.open(packed, contract.at(size))
        np.testing.assert_array_equal(entry.predict(picture(size)), one.predict(picture(size)))
        with pytest.raises(DataError, match="expected a uint8 RGB image"):
            entry.predict(picture((42, 14)))
    runner = open_packed(target, packed, contract)
    assert runner.predict(picture(SIZES[1])).shape == SIZES[1]
    with pytest.raises(DataError, match="one of 14x28, 28x14, 28x28"):
        runner.predict(picture((42, 14)))
    runner.close()


def test_equal_weights_are_stored_once_and_equal_parts_give_equal_bytes(alone, packed, tmp_path: Path) -> None:
    apart = sum(path.stat().st_size for path in alone.values())
    assert packed.stat().st_size < apart - (len(SIZES) - 1) * 4 * WEIGHTS + 4096
    parts = {entry_of(size): path for size, path in alone.items()}
    again = pack(PackRequest(parts=parts, contract=packed_contract(), metadata={"who": "test"}, out=tmp_path))
    assert again.read_bytes() == packed.read_bytes()


def test_the_file_carries_the_contract_of_every_signature(packed) -> None:
    found = read_metadata(packed)
    assert found["who"] == "test"
    for size in SIZES:
        inside = Contract.model_validate_json(found[f"datk.contract.{entry_of(size)}"])
        assert inside.input_size == size and inside.input.shape == (1, *size, 3) and inside.output.shape == (1, *size)
    other = packed_contract().model_copy(update={"depth_kind": DepthKind.DEPTH_METRIC_M, "larger_is": "farther"})
    with pytest.raises(TargetError, match="the file says fp32, 28x14"):
        get("tflite").open(packed, other.at(SIZES[1]))
    renamed = tuple(b.model_copy(update={"entry": "depth_1x1"}) for b in packed_contract().buckets)
    with pytest.raises(TargetError, match=r"no signature depth_1x1, it has depth_14x28"):
        get("tflite").open(packed, packed_contract().model_copy(update={"buckets": renamed}))


def test_the_stand_alone_checker_calls_the_signature_of_a_pictures_size(alone, packed) -> None:
    value = json.loads(packed_contract().model_dump_json())
    predict = verify.open_with_runtime(packed, value)
    for size in SIZES:
        one = get("tflite").open(alone[size], contract_of(size))
        np.testing.assert_array_equal(np.asarray(predict(picture(size)))[0], one.predict(picture(size)))


def test_a_file_without_exactly_one_signature_is_refused_by_name(alone) -> None:
    model = parse(alone[SIZES[0]].read_bytes())
    model.signatureDefs = []
    with pytest.raises(TargetError, match="depth_14x28: 0 signatures"):
        merge({"depth_14x28": model})
    good = parse(alone[SIZES[0]].read_bytes())
    assert serialise(merge({"depth_14x28": good}))[4:8] == b"TFL3"


def test_a_runtime_without_datk_reads_it(packed) -> None:
    """In a process that imports nothing of datk, as an app does."""
    program = (
        "import sys, numpy as np; from ai_edge_litert.interpreter import Interpreter; i = Interpreter(sys.argv[1]);"
        "print(sorted(i.get_signature_list())); "
        "print(i.get_signature_runner('depth_28x14')(image=np.zeros((1, 28, 14, 3), np.uint8))['depth'].shape)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(packed)], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == [str(sorted(map(entry_of, SIZES))), "(1, 28, 14)"]
