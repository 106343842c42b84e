"""Operators of a saved .onnx file that TensorRT refuses or is known to build wrongly. Rules: op_rules.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from datk.targets.jetson import op_rules as rules
from datk.targets.onnx.graph import Edges, attribute, edges_of, values
from datk.targets.onnx.op_lint import finding, read_model, shapes_of
from datk.targets.op_lint import Finding, LintRequest, OpLint


def lint(request: LintRequest) -> OpLint:
    """Every finding in a saved .onnx file. What overflows float16 is the build's check `fp16-range`.

    Raises TargetError when it cannot be read.
    """
    model = read_model(request.artifact)
    found = list(findings(model))
    missing: dict[str, str] = {}
    absent = "the file holds no float16" if request.contract.precision == "fp32" else "no check fp16-range"
    measured = request.checks.get("fp16-range", {"status": "not_measured", "detail": absent})
    if measured["status"] == "failed":
        largest, where = measured["largest"], str(measured["largest_tensor"])
        made = next((n.op_type for n in model.graph.node if where in (o.removesuffix(".half") for o in n.output)), "")
        found.append(Finding(rule=rules.HALF, op=made or "constant", where=where, said=f"reaches {largest}"))
    if measured["status"] == "not_measured":
        missing[rules.HALF.id] = str(measured["detail"])
    count = len(model.graph.node)
    return OpLint(findings=tuple(found), rules=rules.RULES, operators=count, not_measured=missing)


def findings(model: onnx.ModelProto) -> Iterator[Finding]:
    """What can be seen without running the graph; one finding or more a node."""
    edges = edges_of(model.graph)
    shapes = shapes_of(model)
    types = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.output)}
    for index, node in enumerate(model.graph.node):
        if node.domain not in ("", "ai.onnx"):
            yield finding(rules.FOREIGN, node, index, node.domain)
            continue
        if node.op_type in rules.REFUSED:
            yield finding(rules.OP, node, index)
        if node.op_type == "Einsum":
            yield finding(rules.EINSUM, node, index)
        if node.op_type == "Resize":
            mode = _text(attribute(node, "mode", b"nearest"))
            if attribute(node, "antialias", 0) or mode not in ("nearest", "linear", "cubic"):
                yield finding(rules.ANTIALIAS, node, index, mode)
            elif mode == "cubic":
                yield finding(rules.CUBIC, node, index)
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and (zero := _zero_point(node, edges)):
            yield finding(rules.ZERO_POINT, node, index, str(zero))
        if node.op_type == "MatMul" and _reads_int8(node, edges):
            yield finding(rules.ENCODER, node, index)
        if node.op_type == "ReduceMean" and types.get(node.output[0]) == TensorProto.FLOAT16 and _squares(node, edges):
            yield finding(rules.LAYER_NORM, node, index)
        made = [shapes.get(name, ()) for name in node.output]
        if deep := [shape for shape in made if len(shape) > rules.MOST_DIMENSIONS]:
            yield finding(rules.RANK, node, index, f"{len(deep[0])} dimensions")
        if loose := [shape for shape in made if any(not isinstance(side, int) for side in shape)]:
            yield finding(rules.DYNAMIC, node, index, str(loose[0]))
        if any(types.get(name) == TensorProto.DOUBLE for name in node.output):
            yield finding(rules.DOUBLE, node, index)


def _zero_point(node: onnx.NodeProto, edges: Edges) -> int:
    """The zero point farthest from 0 of a Q or DQ; 0 where it has none."""
    if len(node.input) < 3 or node.input[2] not in edges.initializers:
        return 0
    zeros = values(edges.initializers[node.input[2]]).astype(np.int64).ravel()
    return int(zeros[np.abs(zeros).argmax()]) if zeros.size else 0


def _reads_int8(node: onnx.NodeProto, edges: Edges) -> bool:
    return edges.produced_by(node.input[0], "DequantizeLinear") is not None


def _squares(node: onnx.NodeProto, edges: Edges) -> bool:
    """It averages squares: a Pow, or a tensor times itself."""
    made = edges.producers.get(node.input[0])
    return made is not None and (made.op_type == "Pow" or (made.op_type == "Mul" and made.input[0] == made.input[1]))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
