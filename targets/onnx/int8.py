"""Does the file compute in int8 what it was meant to? Counted in the file, not believed from the recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from torch import nn
from torch.fx import GraphModule

from datk.targets.int8_layers import Int8Layer, differing, program_layers, rows
from datk.targets.int8_record import Int8Findings
from datk.targets.onnx.graph import Edges, attribute, edges_of, values, weight_layers

_INT8 = (TensorProto.INT8, TensorProto.UINT8)
_MOVES = ("Reshape", "Transpose", "Slice", "Split", "Squeeze", "Unsqueeze", "Flatten", "Concat", "Identity", "Cast")
"""Operations that move values and compute nothing."""
_FREE = (*_MOVES, "QuantizeLinear", "DequantizeLinear", "Conv", "ConvTranspose", "Gemm", "Shape")


def check_int8(
    model: onnx.ModelProto, expected_layers: Sequence[str] | None, *, symmetric: bool, program: nn.Module | None = None
) -> dict[str, Any]:
    """The check `int8-scheme` of a file: every layer meant to be int8 has Q/DQ on its data and an int8 weight.

    expected_layers: names the scheme selected in the float net; None when no float net was given (then as many as the
    program quantises). symmetric: zero point 0 is required everywhere. program: the quantised program, whose weights
    and input scales the file must hold.
    """
    edges = edges_of(model.graph)
    meant = program_layers(program) if isinstance(program, GraphModule) else []
    found: list[Int8Layer] = []
    float_weights: list[str] = []
    half_way: list[str] = []
    floats: list[onnx.NodeProto] = []
    kinds: Counter[str] = Counter()
    layers = list(weight_layers(model.graph))
    for node, data, weight in layers:
        reads_int8 = _quantised_data(edges, data)
        stored = _stored_type(edges, weight)
        if reads_int8 and stored == "int8":
            kinds[node.op_type] += 1
            found.append(_layer(edges, node, data, weight))
        elif stored == "float, quantised at run time" or (reads_int8 and stored == "float"):
            float_weights.append(f"{node.name} (weight stored as {stored})")
        elif stored == "int8":
            half_way.append(f"{node.name}: weight stored as int8, data read as float")
        else:
            floats.append(node)
    names = expected_layers if expected_layers is not None else [m.name for m in meant] or [f.name for f in found]
    findings = Int8Findings(
        meant=len(names),
        int8_ops=dict(kinds),
        float_ops=dict(Counter(node.op_type for node in floats)),
        int8_weight_bytes=sum(values(i).nbytes for i in model.graph.initializer if i.data_type == TensorProto.INT8),
        not_int8=_missing(names, found),
        float_weights=float_weights,
        fragile=_fragile(model.graph, edges, {node.name for node, _, _ in layers}),
        zero_points=[f"{name} ({zero})" for name, zero in _nonzero_points(model, edges)] if symmetric else [],
        per_tensor=[f.name for f in found if _scales(edges, f.name, layers) == 1 and len(f.weight) > 1],
        scales=differing(found, meant) if meant else [],
        other=[*half_way, *_unexpected(names, found)],
    )
    return findings.record()


def _missing(names: Sequence[str], found: Sequence[Int8Layer]) -> list[str]:
    """Selected layers for which no int8 layer of that name is in the file; by number where names do not match."""
    there = {layer.name.rsplit("/", 1)[0] for layer in found}
    absent = [name for name in names if name not in there]
    return (
        absent
        if len(names) - len(absent) == len(there)
        else [f"{len(names) - len(found)} layers"] * (len(names) > len(found))
    )


def _unexpected(names: Sequence[str], found: Sequence[Int8Layer]) -> list[str]:
    extra = len(found) - len(names)
    return [f"{len(found)} layers run in int8, the scheme selected {len(names)}"] if extra > 0 else []


def _fragile(graph: onnx.GraphProto, edges: Edges, layers: set[str]) -> list[str]:
    """Operations other than layers that compute on dequantised activations."""
    wrong = []
    for node in graph.node:
        if node.op_type in _FREE or node.name in layers:
            continue
        if any(_quantised_data(edges, _behind_moves(edges, name)) for name in node.input if name):
            wrong.append(node.name)
    return wrong


def _behind_moves(edges: Edges, name: str) -> str:
    node = edges.producers.get(name)
    while node is not None and node.op_type in _MOVES:
        name = node.input[0]
        node = edges.producers.get(name)
    return name


def _quantised_data(edges: Edges, name: str) -> bool:
    dequantize = edges.produced_by(name, "DequantizeLinear")
    return dequantize is not None and edges.produced_by(dequantize.input[0], "QuantizeLinear") is not None


def _stored_type(edges: Edges, name: str) -> str:
    """`int8` when the weight lies in the file as int8; `float` or `float, quantised at run time` otherwise."""
    passed: list[str] = []
    while name not in edges.initializers:
        node = edges.producers[name]
        passed.append(node.op_type)
        name = node.input[0]
    if edges.initializers[name].data_type in _INT8:
        return "int8"
    return "float, quantised at run time" if "QuantizeLinear" in passed else "float"


def _dequantize_of(edges: Edges, weight: str) -> tuple[onnx.NodeProto, list[onnx.NodeProto]]:
    """The DequantizeLinear of a stored weight and the transposes after it, outermost first."""
    after = []
    node = edges.producers[weight]
    while node.op_type != "DequantizeLinear":
        after.append(node)
        node = edges.producers[node.input[0]]
    return node, after


def _scales(edges: Edges, name: str, layers: list[tuple[onnx.NodeProto, str, str]]) -> int:
    """How many scales a layer's weight has."""
    weight = next(weight for node, _, weight in layers if node.name == name)
    node, _ = _dequantize_of(edges, weight)
    return int(values(edges.initializers[node.input[1]]).size)


def _layer(edges: Edges, node: onnx.NodeProto, data: str, weight: str) -> Int8Layer:
    """Dequantised weight and input scale of a layer as stored."""
    made, transposes = _dequantize_of(edges, weight)
    stored = values(edges.initializers[_initializer(edges, made.input[0])]).astype(np.float32)
    scale = values(edges.initializers[made.input[1]]).astype(np.float32)
    zero = np.zeros(1, np.float32)
    if len(made.input) > 2 and made.input[2]:
        zero = values(edges.initializers[made.input[2]]).astype(np.float32)
    axis = attribute(made, "axis", 1)
    assert isinstance(axis, int)
    shape = [1] * stored.ndim
    if scale.size > 1:
        shape[axis] = -1
    array = (stored - (zero.reshape(shape) if zero.size > 1 else zero.ravel()[0])) * scale.reshape(shape)
    for transpose in reversed(transposes):
        order = attribute(transpose, "perm")
        array = array.transpose(order if isinstance(order, list) else None)
    if node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0)):
        array = array.T
    read = edges.producers[data].input[1]
    return Int8Layer(node.name, rows(array), float(values(edges.initializers[read]).ravel()[0]))


def _initializer(edges: Edges, name: str) -> str:
    while name not in edges.initializers:
        name = edges.producers[name].input[0]
    return name


def _nonzero_points(model: onnx.ModelProto, edges: Edges) -> list[tuple[str, int]]:
    found = []
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2 and node.input[2]:
            points = values(edges.initializers[node.input[2]])
            if points.any():
                found.append((node.name or node.output[0], int(points.ravel()[points.ravel().nonzero()[0][0]])))
    return found
