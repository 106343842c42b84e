"""Operators of a saved .tflite file that a GPU delegate refuses, or that overflow in float16. Rules: op_rules.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from datk.targets.activation_range import too_large_for_half
from datk.targets.op_lint import Finding, LintRequest, OpLint, Rule
from datk.targets.tflite import op_rules as rules
from datk.targets.tflite.flatbuffer import parse
from datk.targets.tflite.trace import open_trace

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file."""

    name: str
    shape: Shape
    kind: str
    """Element type, in the schema's words."""
    constant: bool
    scaled: bool
    """It has a scale: integers that stand for real numbers."""
    values: tuple[int, ...] = ()
    """Of a small integer constant."""


@dataclass(frozen=True)
class Operator:
    """An operator of the file and its tensors; an optional input that is absent is left out."""

    kind: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    options: dict[str, Any]
    number: int
    """Its place in the file."""
    first: bool = False
    """It reads the file's own input."""

    @property
    def where(self) -> str:
        return f"op {self.number}, {layer_of(self.outputs[0].name)}"

    @property
    def running(self) -> tuple[Tensor, ...]:
        """Inputs that depend on the image."""
        return tuple(t for t in self.inputs if not t.constant)


def lint(request: LintRequest) -> OpLint:
    """Every finding in a saved file. With the option gpu, whatever keeps it off a GPU is an error.

    Raises TargetError when the artifact is no .tflite file.
    """
    operators = read_operators(request.artifact.read_bytes())
    promised = bool(getattr(request.options, "gpu", False))
    found = [finding for op in operators for finding in findings_of(op)]
    missing: dict[str, str] = {}
    if request.photos:
        found += too_large_for_half(
            open_trace(request.artifact, request.contract),
            request.photos,
            rules.HALF,
            without=rules.MOVES,
            layer=layer_of,
        )
    else:
        missing[rules.HALF.id] = "no photographs"
    if promised:
        found = [_promised(f) for f in found]
    return OpLint(findings=tuple(found), rules=rules.RULES, operators=len(operators), not_measured=missing)


def findings_of(op: Operator) -> Iterator[Finding]:
    """What the GPU delegate would refuse of one operator; one finding each, the plainest first."""
    if op.kind == "CUSTOM":
        yield _finding(rules.CUSTOM, op)
        return
    if op.first and op.kind == "CAST":
        yield _finding(rules.EDGE, op, f"{op.inputs[0].kind} to {op.outputs[0].kind}")
        return
    if op.kind not in rules.GPU_OPS:
        yield _finding(rules.OP, op)
        return
    if deep := [t for t in (*op.inputs, *op.outputs) if len(t.shape) > 4]:
        yield _finding(rules.RANK, op, str(deep[0].shape))
    if other := [t for t in (*op.running, *op.outputs) if not _computes(t)]:
        yield _finding(rules.TYPE, op, other[0].kind)
    if said := _refused(op):
        yield _finding(rules.ARGUMENT, op, said)
    if said := _lost_axis(op):
        yield _finding(rules.AXIS, op, said)


def read_operators(content: bytes) -> list[Operator]:
    """Operators of the main subgraph, in the order in which they run. Raises TargetError when it is no .tflite file."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    model = parse(content)
    graph = model.subgraphs[0]
    kinds = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    types = {v: k for k, v in vars(schema.TensorType).items() if isinstance(v, int)}

    def tensor(index: int) -> Tensor:
        stored = graph.tensors[index]
        shape = () if stored.shape is None else tuple(int(side) for side in stored.shape)
        data = model.buffers[stored.buffer].data
        kind = types[stored.type]
        small = data is not None and kind == "INT32" and len(data) <= 64
        return Tensor(
            name=(stored.name or b"").decode(errors="replace") or f"tensor {index}",
            shape=shape,
            kind=kind,
            constant=data is not None,
            scaled=stored.quantization is not None and stored.quantization.scale is not None,
            values=tuple(np.asarray(data, np.uint8).view(np.int32).tolist()) if small else (),
        )

    tensors = [tensor(i) for i in range(len(graph.tensors))]
    found = []
    for number, op in enumerate(graph.operators):
        code = model.operatorCodes[op.opcodeIndex]
        found.append(
            Operator(
                kind=str(kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]),
                inputs=tuple(tensors[i] for i in op.inputs if i >= 0),
                outputs=tuple(tensors[i] for i in op.outputs),
                options=dict(vars(op.builtinOptions)) if op.builtinOptions is not None else {},
                number=number,
                first=any(i == graph.inputs[0] for i in op.inputs),
            )
        )
    return found


def layer_of(name: str) -> str:
    """DinoV2_pretrained/Block_0/LayerNorm_norm1 of the converter's path of classes; of several, the last."""
    paths = [part for part in name.split(";") if part]
    steps = [step.rsplit(".", 1)[-1] for step in (paths[-1] if paths else name).split("/")]
    return "/".join(steps[2:] if len(steps) > 2 else steps)


def seen_by_gpu(shape: Shape) -> Shape:
    """A shape as the delegate reads it: (batch, height, width, channels); 1-D is batch, 2-D batch and channels."""
    missing = 4 - len(shape)
    if missing <= 0 or not shape:
        return shape
    return (shape[0], *[1] * missing, *shape[1:])


def _lost_axis(op: Operator) -> str:
    """What a reduction's result is and what the delegate would make of it; empty when both agree."""
    if op.kind not in rules.REDUCTIONS or len(op.inputs) < 2 or len(op.inputs[0].shape) > 4:
        return ""
    before, after = op.inputs[0].shape, op.outputs[0].shape
    axes = {axis % len(before) for axis in op.inputs[1].values}
    reduced = seen_by_gpu(tuple(1 if i in axes else side for i, side in enumerate(before)))
    return "" if seen_by_gpu(after) in (reduced, ()) else f"{before} over {sorted(axes)} gives {after}"


def _computes(tensor: Tensor) -> bool:
    return tensor.kind in ("FLOAT32", "FLOAT16") or (tensor.kind in ("INT8", "UINT8") and tensor.scaled)


def _refused(op: Operator) -> str:
    """The arguments the delegate does not take, in words; empty when it takes them."""
    options, shape = op.options, op.inputs[0].shape if op.inputs else ()
    if op.kind == "RESIZE_BILINEAR" and options.get("alignCorners") and options.get("halfPixelCenters"):
        return "align_corners and half_pixel_centers"
    if op.kind in ("SLICE", "STRIDED_SLICE") and len(shape) not in (3, 4):
        return f"of {len(shape)} dimensions"
    if op.kind == "STRIDED_SLICE":
        masks = [m for m in ("ellipsisMask", "newAxisMask", "shrinkAxisMask") if options.get(m)]
        return ", ".join(masks)
    if op.kind == "SOFTMAX" and options.get("beta") != 1.0:
        return f"beta {options.get('beta')}"
    if op.kind in rules.REDUCTIONS and not (op.inputs[1].constant and op.inputs[1].kind == "INT32"):
        return "axes that are not constant int32"
    if op.kind == "FULLY_CONNECTED" and options.get("keepNumDims") and len(shape) != len(op.outputs[0].shape):
        return f"{len(shape)} dimensions to {len(op.outputs[0].shape)} with keep_num_dims"
    if op.kind in rules.BROADCASTS:
        return _broadcast(op.inputs[0].shape, op.inputs[1].shape)
    return ""


def _broadcast(one: Shape, other: Shape) -> str:
    """What the delegate refuses of an ADD's or MUL's operands: ranks that differ, but for three cases of a 4-D one."""
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    if len(shorter) < 2 or len(longer) == len(shorter):
        return ""
    if len(longer) == 4 and (
        (len(shorter) == 3 and longer[0] == 1)
        or (len(shorter) == 2 and longer[0] == 1 and shorter == (1, 1))
        or (len(shorter) == 2 and (longer[0], longer[3]) == shorter)
    ):
        return ""
    return f"{one} and {other}"


def _promised(finding: Finding) -> Finding:
    if finding.rule in (rules.EDGE, rules.CUSTOM):
        return finding
    return Finding(rule=finding.rule, op=finding.op, where=finding.where, said=finding.said, severity="error")


def _finding(rule: Rule, op: Operator, said: str = "") -> Finding:
    return Finding(rule=rule, op=op.kind, where=op.where, said=said)
