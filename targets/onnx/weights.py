"""int8-weights: large float weights stored as int8 per output channel, unpacked by DequantizeLinear before the layer.

Symmetric, no calibration, arithmetic in float; standard ONNX, so every runtime reads it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from datk.targets.onnx.export import with_types
from datk.targets.onnx.graph import attribute, edges_of, set_values, values, weight_layers

NAME = "compressed-weights"
LEAST_VALUES = 2048
"""Smaller weights stay float: their scales would cost more than they save."""


def int8_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float model with its large weights in int8; the model given is changed."""
    graph = model.graph
    edges = edges_of(graph)
    made: list[onnx.NodeProto] = []
    for node, _, name in list(weight_layers(graph)):
        stored = edges.initializers.get(name)
        if stored is None or stored.data_type != TensorProto.FLOAT or values(stored).size < LEAST_VALUES:
            continue
        if len(edges.readers[name]) != 1:
            continue
        axis = _output_axis(node)
        integers, scales = per_channel(values(stored).astype(np.float32), axis)
        set_values(stored, integers)
        graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scale"))
        graph.initializer.append(numpy_helper.from_array(np.zeros(scales.size, np.int8), f"{name}.zero_point"))
        dequantize = helper.make_node(
            "DequantizeLinear",
            [name, f"{name}.scale", f"{name}.zero_point"],
            [f"{name}.float"],
            name=f"{node.name}/weight",
            axis=axis,
        )
        node.input[list(node.input).index(name)] = f"{name}.float"
        made.append(dequantize)
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in (*made, *graph.node)]
    del graph.node[:]
    graph.node.extend(nodes)
    return with_types(model)


def per_channel(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 in -127..127 with one scale for each index along axis: (integers, scales)."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    reach = np.abs(weight).max(others)
    scales = np.where(reach > 0, reach / 127, 1.0).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    return np.clip(np.rint(weight / scales.reshape(shape)), -127, 127).astype(np.int8), scales


def check_weights(model: onnx.ModelProto) -> dict[str, Any]:
    """The check `compressed-weights` of a file: every large weight is int8 with a scale for each output channel."""
    edges = edges_of(model.graph)
    kinds: Counter[str] = Counter()
    wrong: list[str] = []
    for node, _, name in weight_layers(model.graph):
        dequantize = edges.produced_by(name, "DequantizeLinear")
        stored = edges.initializers.get(dequantize.input[0] if dequantize is not None else name)
        if stored is None:
            wrong.append(f"{node.name}: its weight is not stored as such")
        elif dequantize is not None and stored.data_type == TensorProto.INT8:
            kinds["int8"] += 1
            channels = values(stored).shape[_output_axis(node)]
            if values(edges.initializers[dequantize.input[1]]).size != channels:
                wrong.append(f"{node.name}: not one scale for each of {channels} output channels")
        else:
            kinds["float"] += 1
            if values(stored).size >= LEAST_VALUES:
                wrong.append(f"{node.name}: a large weight is stored as float")
    if not kinds["int8"]:
        wrong.append("no weight is stored as int8")
    found = f"{kinds['int8']} weights in int8 per output channel, {kinds['float']} small ones in float"
    return {
        "status": "failed" if wrong else "passed",
        "detail": "; ".join(wrong[:6]) or found,
        "stored": dict(sorted(kinds.items())),
        "int8_weight_bytes": sum(values(i).nbytes for i in model.graph.initializer if i.data_type == TensorProto.INT8),
    }


def _output_axis(node: onnx.NodeProto) -> int:
    """Axis of the output channels of a layer's weight."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)):
        return 0
    return 1
