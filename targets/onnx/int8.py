"""Does the file compute in int8 what it was meant to? Counted in the file, not believed from the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto

from datk.targets.onnx.graph import Edges, edges_of, values, weight_layers

_INT8 = (TensorProto.INT8, TensorProto.UINT8)


def check_int8(model: onnx.ModelProto, expected_layers: Sequence[str] | None, *, symmetric: bool) -> dict[str, Any]:
    """A check record: every layer meant to be int8 has Q/DQ on its data and a weight stored in int8.

    expected_layers: names the scheme selected in the float net; None when no float net was given (then
    only the file's own consistency is judged). symmetric: zero point 0 is required everywhere.
    """
    edges = edges_of(model.graph)
    quantised: list[str] = []
    problems: list[str] = []
    floats: list[str] = []
    for node, data, weight in weight_layers(model.graph):
        reads_int8 = _quantised_data(edges, data)
        stored = _stored_type(edges, weight)
        if reads_int8 and stored == "int8":
            quantised.append(node.name)
        elif not reads_int8 and stored == "float":
            floats.append(node.name)
        else:
            data_is = "int8" if reads_int8 else "float"
            problems.append(f"{node.name}: weight stored as {stored}, data read as {data_is}")
    if symmetric:
        problems += [f"{name}: zero point {zero}" for name, zero in _nonzero_points(model, edges)]
    if expected_layers is not None and len(quantised) != len(expected_layers):
        problems.append(f"{len(quantised)} layers run in int8, the scheme selected {len(expected_layers)}")
    if not quantised:
        problems.append("no layer runs in int8")
    weight_bytes = sum(values(i).nbytes for i in model.graph.initializer if i.data_type == TensorProto.INT8)
    detail = "; ".join(problems) or f"{len(quantised)} layers in int8, {len(floats)} in float as the scheme says"
    return {
        "status": "failed" if problems else "passed",
        "detail": detail,
        "int8_layers": len(quantised),
        "float_layers": len(floats),
        "expected_int8_layers": None if expected_layers is None else len(expected_layers),
        "int8_weight_bytes": weight_bytes,
    }


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


def _nonzero_points(model: onnx.ModelProto, edges: Edges) -> list[tuple[str, int]]:
    found = []
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2 and node.input[2]:
            points = values(edges.initializers[node.input[2]])
            if points.any():
                found.append((node.name, int(points.ravel()[points.ravel().nonzero()[0][0]])))
    return found
