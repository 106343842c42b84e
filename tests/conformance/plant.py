"""Plant a fault into a saved artifact: a wrong weight, a swapped axis, a wrong resize mode. One edit per format.

A Site knows the torch layer it belongs to, found independently of the detector: by the layer names in an ONNX file,
by the values of the weights, or by the sizes of the maps.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from datk.targets.coreml.reference.program import Operation, package_files, read_program, read_specification
from datk.targets.onnx.graph import attribute, edges_of, weight_layers
from datk.targets.tflite.flatbuffer import parse, serialise

KINDS = ("weight", "axis", "resize")
MOVED = {(0, 2, 1): (0, 1, 2), (0, 2, 1, 3): (0, 1, 2, 3)}
"""Transpositions that a reshape follows: without them the shapes still fit and the values are wrong."""


@dataclass(frozen=True)
class Site:
    """Where a fault can be planted. plant(source, target): write a copy of the artifact with it."""

    kind: str
    layer: str
    plant: Callable[[Path, Path], None]
    which: str = ""
    """Of several operations of that layer."""


def sites(artifact: Path, weights: Mapping[str, np.ndarray], seed: int) -> list[Site]:
    """Every site of a saved artifact, in its order. weights: name -> value of the deployment module's state."""
    finders = {".onnx": onnx_sites, ".tflite": tflite_sites, ".mlpackage": coreml_sites, ".openvino": openvino_sites}
    if artifact.suffix not in finders:
        pytest.skip(f"plant.py knows no way to plant a fault into {artifact.suffix}")
    return finders[artifact.suffix](artifact, weights, np.random.default_rng(seed))


def spoilt(weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The weight of another layer, as good as: the same numbers in another order."""
    return rng.permutation(weight.ravel()).reshape(weight.shape)


# --- ONNX ---------------------------------------------------------------------------------------------------------


def onnx_sites(artifact: Path, weights: Mapping[str, np.ndarray], rng: np.random.Generator) -> list[Site]:
    graph = onnx.load(artifact).graph
    edges = edges_of(graph)
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in graph.value_info}
    found = []
    for node, _, weight in weight_layers(graph):
        while weight not in edges.initializers:
            weight = edges.producers[weight].input[0]
        found.append(Site("weight", _layer(node), _onnx_edit(_spoil_initialiser, weight, int(rng.integers(99)))))
    for node in graph.node:
        if node.op_type == "Resize":
            found.append(Site("resize", _layer(node), _onnx_edit(_half_pixels, node.name)))
        reader = edges.only_reader(node.output[0])
        perm = tuple(attribute(node, "perm", ())) if node.op_type == "Transpose" else ()
        moves = perm in MOVED and 1 not in shapes.get(node.input[0], (1, 1, 1))[1:3]  # one head: nothing to swap
        if moves and reader is not None and reader.op_type == "Reshape":
            found.append(Site("axis", _layer(node), _onnx_edit(_leave_untransposed, node.name)))
    return found


def _layer(node: onnx.NodeProto) -> str:
    """datk names ONNX nodes after the module they come from."""
    path = node.name.rsplit("/", 1)[0]
    return "(whole net)" if path == "net" else path.removeprefix("net.")


def _onnx_edit(edit: Callable, *arguments: object) -> Callable[[Path, Path], None]:
    def plant(source: Path, target: Path) -> None:
        model = onnx.load(source)
        edit(model.graph, *arguments)
        del model.graph.value_info[:]
        onnx.save(model, target)

    return plant


def _spoil_initialiser(graph: onnx.GraphProto, name: str, seed: int) -> None:
    item = next(i for i in graph.initializer if i.name == name)
    values = spoilt(numpy_helper.to_array(item), np.random.default_rng(seed))
    item.CopyFrom(numpy_helper.from_array(values, name))


def _half_pixels(graph: onnx.GraphProto, name: str) -> None:
    node = next(n for n in graph.node if n.name == name)
    mode = next(a for a in node.attribute if a.name == "coordinate_transformation_mode")
    assert mode.s == b"align_corners"
    mode.s = b"half_pixel"


def _leave_untransposed(graph: onnx.GraphProto, name: str) -> None:
    node = next(n for n in graph.node if n.name == name)
    perm = next(a for a in node.attribute if a.name == "perm")
    perm.ints[:] = MOVED[tuple(perm.ints)]


# --- LiteRT -------------------------------------------------------------------------------------------------------


def tflite_sites(artifact: Path, weights: Mapping[str, np.ndarray], rng: np.random.Generator) -> list[Site]:
    from ai_edge_litert import schema_py_generated as schema

    model = parse(artifact.read_bytes())
    graph = model.subgraphs[0]
    operator = schema.BuiltinOperator
    kinds = [model.operatorCodes[op.opcodeIndex].builtinCode for op in graph.operators]
    found, taps = [], 0
    for place, (kind, op) in enumerate(zip(kinds, graph.operators, strict=True)):
        data = model.buffers[graph.tensors[op.inputs[1]].buffer].data if len(op.inputs) > 1 else None
        if kind in (operator.FULLY_CONNECTED, operator.CONV_2D, operator.TRANSPOSE_CONV):
            stored = _tflite_weight(model, place)
            if stored is not None and (layer := owner(stored[2], weights)) is not None:
                found.append(Site("weight", layer, _tflite_edit(_spoil_buffer, place, int(rng.integers(99)))))
        if kind == operator.RESIZE_BILINEAR:
            shape = graph.tensors[op.outputs[0]].shape
            found.append(Site("resize", resized((shape[1], shape[2])), _tflite_edit(_tflite_half_pixels, place)))
        if kind == operator.TRANSPOSE and kinds[place + 1] == operator.RESHAPE and data is not None:
            perm = tuple(np.frombuffer(np.ascontiguousarray(data).tobytes(), np.int32).tolist())
            if perm == (0, 2, 1):
                taps += 1
                found.append(Site("axis", "depth_head", _tflite_edit(_tflite_leave, place), f"{taps} of 4"))
    return found


def _tflite_edit(edit: Callable, *arguments: object) -> Callable[[Path, Path], None]:
    def plant(source: Path, target: Path) -> None:
        model = parse(source.read_bytes())
        edit(model, *arguments)
        target.write_bytes(serialise(model))

    return plant


def _tflite_weight(model, place: int) -> tuple[int, np.ndarray, np.ndarray] | None:
    """(buffer, numbers as stored, as meant) of an operator's weight; fp16 files store it before a DEQUANTIZE."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    index = graph.operators[place].inputs[1]
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex].builtinCode
        if code == schema.BuiltinOperator.DEQUANTIZE and index in op.outputs:
            index = op.inputs[0]
    tensor = graph.tensors[index]
    data = model.buffers[tensor.buffer].data
    if data is None:
        return None
    kinds = {
        schema.TensorType.FLOAT32: np.float32,
        schema.TensorType.FLOAT16: np.float16,
        schema.TensorType.INT8: np.int8,
    }
    stored = np.frombuffer(np.ascontiguousarray(data).tobytes(), kinds[tensor.type])
    meant = stored.astype(np.float32)
    if tensor.type == schema.TensorType.INT8:
        rule = tensor.quantization
        channels = [1] * len(tensor.shape)
        channels[rule.quantizedDimension] = -1
        meant = (meant.reshape(tensor.shape) * np.asarray(rule.scale).reshape(channels)).ravel()
    return tensor.buffer, stored, meant


def _spoil_buffer(model, place: int, seed: int) -> None:
    buffer, values, _ = _tflite_weight(model, place)
    model.buffers[buffer].data = spoilt(values, np.random.default_rng(seed)).view(np.uint8)


def _tflite_half_pixels(model, place: int) -> None:
    options = model.subgraphs[0].operators[place].builtinOptions
    assert options.alignCorners
    options.alignCorners, options.halfPixelCenters = False, True


def _tflite_leave(model, place: int) -> None:
    """Constants are shared, so the transposition gets one of its own."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    op = graph.operators[place]
    old = graph.tensors[op.inputs[1]]
    model.buffers.append(schema.BufferT(data=np.array([0, 1, 2], np.int32).view(np.uint8)))
    graph.tensors.append(
        schema.TensorT(shape=old.shape, type=old.type, buffer=len(model.buffers) - 1, name=b"planted", hasRank=True)
    )
    op.inputs = [int(op.inputs[0]), len(graph.tensors) - 1]
    graph.tensors[op.outputs[0]].shape = graph.tensors[op.inputs[0]].shape


# --- Core ML ------------------------------------------------------------------------------------------------------


def coreml_sites(artifact: Path, weights: Mapping[str, np.ndarray], rng: np.random.Generator) -> list[Site]:
    program = read_program(artifact)
    consts = {op.name: op for op in program.operations if op.type == "const"}
    int8 = {op.name: op for op in program.operations if op.type == "constexpr_affine_dequantize"}
    readers: dict[str, list[Operation]] = {}
    for op in program.operations:
        for several in op.inputs.values():
            for name in several:
                readers.setdefault(str(name), []).append(op)
    found, taps = [], 0
    for op in program.operations:
        if op.type in ("linear", "conv", "conv_transpose"):
            const = consts.get(str(op.inputs["weight"][0]))
            if const is not None and const.stored:
                layer = owner(np.asarray(const.value, np.float32).ravel(), weights)
                if layer is not None:
                    edit = _coreml_edit(_spoil_blob, const.name, "val", int(rng.integers(99)))
                    found.append(Site("weight", layer, edit))
            coded = int8.get(str(op.inputs["weight"][0]))
            if coded is not None and (layer := owner(_coreml_meant(coded), weights)) is not None:
                edit = _coreml_edit(_spoil_blob, coded.name, "quantized_data", int(rng.integers(99)))
                found.append(Site("weight", layer, edit))
        if op.type == "upsample_bilinear":
            layer = resized(op.outputs[op.name].shape[2:])
            found.append(Site("resize", layer, _coreml_edit(_coreml_half_pixels, op.name)))
        if op.type == "transpose" and [r.type for r in readers.get(op.name, [])] == ["reshape"]:
            perm = consts[str(op.inputs["perm"][0])].value if "perm" not in op.bound else op.inputs["perm"][0]
            if tuple(int(p) % 3 for p in np.asarray(perm)) == (0, 2, 1):
                taps += 1
                found.append(Site("axis", "depth_head", _coreml_edit(_coreml_leave, op.name), f"{taps} of 4"))
    return found


def _coreml_meant(op: Operation) -> np.ndarray:
    """The weight that stored int8 and its scales stand for, flat."""
    stored, scale = (np.asarray(op.inputs[name][0], np.float32) for name in ("quantized_data", "scale"))
    channels = [1] * stored.ndim
    channels[int(np.asarray(op.inputs["axis"][0]))] = -1
    return np.asarray(stored * scale.reshape(channels if scale.size > 1 else [1] * stored.ndim)).ravel()


def _coreml_edit(edit: Callable, *arguments: object) -> Callable[[Path, Path], None]:
    def plant(source: Path, target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        path = package_files(target)["root"]
        spec = read_specification(path)
        function = spec.mlProgram.functions["main"]
        operations = function.block_specializations[function.opset].operations
        edit(operations, path.parent / "weights" / "weight.bin", *arguments)
        path.write_bytes(spec.SerializeToString(deterministic=True))

    return plant


def _named(operations, name: str):
    return next(op for op in operations if any(o.name == name for o in op.outputs))


def _spoil_blob(operations, blob: Path, name: str, stored: str, seed: int) -> None:
    content = bytearray(blob.read_bytes())
    offset = _named(operations, name).attributes[stored].blobFileValue.offset
    _, code, size, start = struct.unpack_from("<IIQQ", content, offset)
    kind = np.dtype({1: "<f2", 2: "<f4", 4: "i1"}[code])
    values = np.frombuffer(content, kind, count=size // kind.itemsize, offset=start)
    content[start : start + size] = spoilt(values, np.random.default_rng(seed)).tobytes()
    blob.write_bytes(content)


def _constant(operations, argument):
    """The value of an argument, named or bound in place."""
    binding = argument.arguments[0]
    return binding.value if binding.HasField("value") else _named(operations, binding.name).attributes["val"]


def _coreml_half_pixels(operations, blob: Path, name: str) -> None:
    argument = _named(operations, name).inputs["align_corners"]
    value = type(argument.arguments[0].value)()
    value.CopyFrom(_constant(operations, argument))
    value.immediateValue.tensor.bools.values[:] = [False]
    argument.arguments[0].value.CopyFrom(value)


def _coreml_leave(operations, blob: Path, name: str) -> None:
    op = _named(operations, name)
    argument = op.inputs["perm"]
    value = type(argument.arguments[0].value)()
    value.CopyFrom(_constant(operations, argument))
    value.immediateValue.tensor.ints.values[:] = [0, 1, 2]
    argument.arguments[0].value.CopyFrom(value)
    sides = op.outputs[0].type.tensorType.dimensions
    sides[1].constant.size, sides[2].constant.size = sides[2].constant.size, sides[1].constant.size


# --- OpenVINO -----------------------------------------------------------------------------------------------------


def openvino_sites(artifact: Path, weights: Mapping[str, np.ndarray], rng: np.random.Generator) -> list[Site]:
    from datk.targets.openvino.ir import load
    from datk.targets.openvino.layers import weight_layers

    model = load(artifact)
    found, leave = [], []
    for layer in weight_layers(model):
        edit = _openvino_edit(_openvino_spoil, layer.node, int(rng.integers(99)))
        found.append(Site("weight", layer.name.removeprefix("net."), edit))
    for node in model.get_ordered_ops():
        name, kind = node.get_friendly_name(), node.get_type_name()
        if kind == "Interpolate":
            found.append(Site("resize", resized(tuple(node.get_output_shape(0))[2:]), _openvino_half_pixels(name)))
        readers = [i.get_node().get_type_name() for i in node.output(0).get_target_inputs()] if kind != "Result" else []
        if (kind, readers) == ("Transpose", ["Reshape"]):
            leave += [name] if node.input_value(1).get_node().get_data().tolist() == [0, 2, 1] else []
    leave.sort(key=lambda name: int(name.rsplit("_", 1)[1]))  # as exported: OpenVINO orders the deepest tap first
    for tap, name in enumerate(leave, start=1):
        found.append(Site("axis", "depth_head", _openvino_edit(_openvino_leave, name), f"{tap} of 4"))
    return found


def _openvino_edit(edit: Callable, name: str, *arguments: object) -> Callable[[Path, Path], None]:
    def plant(source: Path, target: Path) -> None:
        import openvino as ov

        model = ov.Core().read_model(source / "model.xml")
        edit(next(n for n in model.get_ordered_ops() if n.get_friendly_name() == name), *arguments)
        model.validate_nodes_and_infer_types()
        shutil.rmtree(target, ignore_errors=True)
        ov.save_model(model, target / "model.xml", compress_to_fp16=False)

    return plant


def _openvino_constant(node, side: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace the stored constant that an operation's input comes from."""
    import openvino as ov

    reader = node.input(side)
    while (made := reader.get_source_output().get_node()).get_type_name() != "Constant":
        reader = made.input(0)
    reader.replace_source_output(ov.opset13.constant(change(made.get_data())).output(0))


def _openvino_spoil(node, seed: int) -> None:
    _openvino_constant(node, 1, lambda values: spoilt(values, np.random.default_rng(seed)))


def _openvino_leave(node) -> None:
    _openvino_constant(node, 1, lambda order: np.arange(order.size, dtype=order.dtype))


def _openvino_half_pixels(name: str) -> Callable[[Path, Path], None]:
    def plant(source: Path, target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        text = (target / "model.xml").read_text(encoding="utf-8")
        before, after = text.split(f'name="{name}" type="Interpolate"', 1)
        after = after.replace('"align_corners"', '"half_pixel"', 1)
        (target / "model.xml").write_text(f'{before}name="{name}" type="Interpolate"{after}', encoding="utf-8")

    return plant


# --- which layer --------------------------------------------------------------------------------------------------


def owner(values: np.ndarray, weights: Mapping[str, np.ndarray]) -> str | None:
    """The layer whose weight holds these numbers in whatever order; None when a converter changed them."""
    wanted = np.sort(values.astype(np.float32))
    for name, weight in weights.items():
        if name.endswith(".weight") and weight.size == wanted.size:
            ours = np.sort(weight.ravel())
            if np.abs(ours - wanted).max() <= 4e-3 * np.abs(ours).max():  # half a step of int8
                return name.removesuffix(".weight").removeprefix("net.")
    return None


def resized(size: tuple[int, int]) -> str:
    """The layer that resizes to a map of this size: of the conformance toy, whose patch grid is 3x4."""
    layers = {(42, 56): "depth_head"}
    layers |= {(3 * 2**i, 4 * 2**i): f"depth_head.scratch.refinenet{4 - i}" for i in range(4)}
    return layers[int(size[0]), int(size[1])]
