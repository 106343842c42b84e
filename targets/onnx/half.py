"""Strongly typed fp16: every tensor behind the normalisation becomes float16, by casts in the file itself.

The 8-bit image is normalised in float32 (its mean has no exact half), then cast; the depth map is cast
back at the end. LayerNormalization stays one op, whose statistics ONNX defines in float32 (stash_type 1).
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from datk.errors import TargetError
from datk.targets.onnx.export import OUTPUT_NAME, with_types
from datk.targets.onnx.graph import Edges, edges_of, read_input, set_attribute, set_values, values

HALF_MAX = 65504.0
SMALLEST_SCALE = 2.0**-14
"""Smallest normal half: a quantisation scale below it would lose bits or become 0, which TensorRT refuses."""

_FLOAT_INPUTS = {"Resize": (1, 2)}
"""Inputs that ONNX wants in float32 whatever the data's type (roi and scales)."""


def half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float16 copy of a float32 (or int8 Q/DQ) model made by onnx_model; edges keep their types.

    Raises TargetError when a weight does not fit into float16.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    edges = edges_of(graph)
    front, boundary = _float_front(edges, graph)
    _lift_small_scales(graph, edges)
    _cast_weights(graph, front)
    for node in graph.node:
        if node.op_type == "Cast" and node.output[0] not in front:
            set_attribute(node, "to", TensorProto.FLOAT16)
    _cast_boundary(graph, edges, front, boundary)
    return with_types(model)


def half_tensors(model: onnx.ModelProto) -> list[str]:
    """Names of all activations a model holds in float16, in graph order. model: from half_precision."""
    made = {name for node in model.graph.node for name in node.output}
    return [
        v.name for v in model.graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16 and v.name in made
    ]


def _float_front(edges: Edges, graph: onnx.GraphProto) -> tuple[set[str], str]:
    """Tensors computed before the first convolution, and the last of them.

    Where that convolution is quantised its Q/DQ stays behind the boundary: a cast between them and the convolution
    would leave it in float.
    """
    first = next(node for node in graph.node if node.op_type == "Conv")
    boundary = first.input[0]
    dequantize = edges.produced_by(boundary, "DequantizeLinear")
    quantize = dequantize and edges.produced_by(dequantize.input[0], "QuantizeLinear")
    if quantize is not None:
        boundary = quantize.input[0]
    front: set[str] = set()
    queue = [boundary]
    while queue:
        node = edges.producers.get(queue.pop())
        if node is not None and node.output[0] not in front:
            front.update(node.output)
            queue.extend(node.input)
    return front, boundary


def _lift_small_scales(graph: onnx.GraphProto, edges: Edges) -> None:
    """Raise every quantisation scale to at least SMALLEST_SCALE and requantise the weights it belongs to."""
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale = edges.initializers[node.input[1]]
        old = values(scale).astype(np.float64)
        new = np.maximum(old, SMALLEST_SCALE)
        stored = edges.initializers.get(node.input[0])
        if stored is not None and stored.data_type == TensorProto.INT8 and (new != old).any():
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            set_values(stored, _requantised(values(stored), old / new, axis))
    for name in {n.input[1] for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")}:
        scale = edges.initializers[name]
        set_values(scale, np.maximum(values(scale), np.float32(SMALLEST_SCALE)))


def _requantised(weights: NDArray[np.generic], ratio: NDArray[np.float64], axis: int) -> NDArray[np.int8]:
    if ratio.ndim:
        shape = [1] * weights.ndim
        shape[axis] = -1
        ratio = ratio.reshape(shape)
    return np.rint(weights.astype(np.float64) * ratio).astype(np.int8)


def _cast_weights(graph: onnx.GraphProto, front: set[str]) -> None:
    """Store float32 initialisers as float16, except those the float front or a Resize reads."""
    stay = {name for node in graph.node if node.output[0] in front for name in node.input}
    for node in graph.node:
        stay.update(node.input[i] for i in _FLOAT_INPUTS.get(node.op_type, ()) if i < len(node.input))
    behind = {name for node in graph.node if node.output[0] not in front for name in node.input}
    for item in list(graph.initializer):
        if item.data_type != TensorProto.FLOAT:
            continue
        array = values(item).astype(np.float32)
        if item.name in stay:
            if item.name in behind and not _only_float_inputs(graph, item.name, front):
                copy = f"{item.name}.half"
                for node in graph.node:
                    if node.output[0] not in front and node.op_type not in _FLOAT_INPUTS:
                        read_input(node, item.name, copy)
                graph.initializer.append(onnx.numpy_helper.from_array(_half(array, item.name), copy))
            continue
        set_values(item, _half(array, item.name))


def _only_float_inputs(graph: onnx.GraphProto, name: str, front: set[str]) -> bool:
    readers = [n for n in graph.node if name in n.input and n.output[0] not in front]
    return all(n.op_type in _FLOAT_INPUTS for n in readers)


def _half(array: NDArray[np.float32], name: str) -> NDArray[np.float16]:
    largest = float(np.abs(array).max(initial=0.0))
    if not largest <= HALF_MAX:
        raise TargetError(
            f"weight '{name}' reaches {largest:g}, more than float16's {HALF_MAX:g}",
            hint="export this net with --precision fp32",
        )
    return array.astype(np.float16)


def _cast_boundary(graph: onnx.GraphProto, edges: Edges, front: set[str], boundary: str) -> None:
    """Insert the two casts: float32 -> float16 behind the normalisation, float16 -> float32 at the end."""
    entry = helper.make_node("Cast", [boundary], [f"{boundary}.half"], name="datk/to_half", to=TensorProto.FLOAT16)
    final = f"{OUTPUT_NAME}.half"
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] not in front:
            read_input(node, boundary, entry.output[0])
        read_input(node, OUTPUT_NAME, final)
        for index, name in enumerate(node.output):
            if name == OUTPUT_NAME:
                node.output[index] = final
        nodes.append(node)
        if boundary in node.output:
            nodes.append(entry)
    nodes.append(helper.make_node("Cast", [final], [OUTPUT_NAME], name="datk/to_float", to=TensorProto.FLOAT))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
