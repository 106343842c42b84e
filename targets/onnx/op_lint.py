"""Operators of a saved .onnx file that fewer runtimes take, or that overflow in float16. Rules: op_rules.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from datk.errors import TargetError
from datk.targets.activation_range import too_large_for_half
from datk.targets.onnx import op_rules as rules
from datk.targets.onnx.trace import open_trace
from datk.targets.op_lint import Finding, LintRequest, OpLint, Rule

MOVES = frozenset(
    (
        *("Cast", "Concat", "DequantizeLinear", "QuantizeLinear", "Reshape", "Slice", "Split", "Squeeze", "Transpose"),
        *("Unsqueeze", "Expand", "Relu", "Softmax", "Sigmoid", "Tanh"),
    )
)
"""Operators whose values cannot be larger than those they read, or than 1."""


def lint(request: LintRequest) -> OpLint:
    """Every finding in a saved .onnx file. Raises TargetError when it cannot be read."""
    model = read_model(request.artifact)
    found = list(findings(model))
    missing: dict[str, str] = {}
    if request.contract.precision != "fp16":
        missing[rules.HALF.id] = f"an {request.contract.precision} file computes in float32"
    elif not request.photos:
        missing[rules.HALF.id] = "no photographs"
    else:
        found += too_large_for_half(
            open_trace(request.artifact, request.contract), request.photos, rules.HALF, without=MOVES
        )
    count = len(model.graph.node)
    return OpLint(findings=tuple(found), rules=rules.RULES, operators=count, not_measured=missing)


def read_model(path: Path) -> onnx.ModelProto:
    """A saved file with the shapes of its tensors. Raises TargetError."""
    from google.protobuf.message import DecodeError

    try:
        return onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    except (OSError, DecodeError, onnx.shape_inference.InferenceError) as error:
        raise TargetError(f"{path}: cannot be read as ONNX: {error}", hint="export it again") from error


def findings(model: onnx.ModelProto) -> Iterator[Finding]:
    """What can be seen without running the graph."""
    shapes = shapes_of(model)
    for index, node in enumerate(model.graph.node):
        if node.domain not in ("", "ai.onnx"):
            yield finding(rules.FOREIGN, node, index, node.domain)
        if node.op_type in rules.CONTROL_FLOW:
            yield finding(rules.FLOW, node, index)
        made = [shapes.get(name, ()) for name in node.output]
        if deep := [shape for shape in made if len(shape) > rules.MOST_DIMENSIONS]:
            yield finding(rules.RANK, node, index, str(deep[0]))
        if loose := [shape for shape in made if any(not isinstance(side, int) for side in shape)]:
            yield finding(rules.DYNAMIC, node, index, str(loose[0]))


def shapes_of(model: onnx.ModelProto) -> dict[str, tuple[int | str, ...]]:
    """Tensor -> its shape where it is known; a side that is no number by its name."""
    graph = model.graph
    return {
        value.name: tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if (kind := value.type.tensor_type).HasField("shape")
    }


def finding(rule: Rule, node: onnx.NodeProto, index: int, said: str = "") -> Finding:
    """Of a node, by its own name or its first output's."""
    return Finding(rule=rule, op=node.op_type, where=node.name or f"node {index}, {node.output[0]}", said=said)
