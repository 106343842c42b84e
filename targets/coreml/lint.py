"""What the saved package really holds: which operations, which are int8, what stayed in fp32."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule

from datk.depth.io_spec import Contract
from datk.targets import int8_record
from datk.targets.coreml.reference.program import Operation, Program
from datk.targets.int8_layers import Int8Layer, differing, program_layers, rows
from datk.targets.int8_record import Int8Findings

Check = dict[str, Any]

LAYERS = ("linear", "conv", "conv_transpose")
"""Operations that may read int8 activations and weights; every other stays in float."""
CASTS = ("cast", "dequantize", "quantize")
SMALLEST_NORMAL_FP16 = 2.0**-14


def check_program(
    program: Program, *, contract: Contract, module: nn.Module, meant: int | None = None
) -> dict[str, Check]:
    """Checks of a saved package by name; see BuildResult.checks for their form.

    module: what was compiled; for int8 the quantised program, whose layers the package must hold.
    meant: how many layers the target's scheme selects in the float net, where that is known.
    """
    checks = {"operations": _operations(program)}
    if contract.precision != "fp32":
        checks["left_in_fp32"] = _left_in_fp32(program)
    if contract.precision == "int8":
        checks[int8_record.NAME] = _int8(program, module, meant)
    return checks


def quantised_layers(module: nn.Module) -> dict[str, int]:
    """MIL operation type -> how many layers of a quantised program have a weight in int8."""
    kinds = {"linear": "linear", "conv2d": "conv", "conv_transpose2d": "conv_transpose"}
    counts: Counter[str] = Counter()
    for node in getattr(getattr(module, "graph", None), "nodes", ()):
        name = str(node.target).split(".")
        if node.op == "call_function" and len(name) > 1 and name[1 if name[0] == "aten" else 0] in kinds:
            weight = node.args[1]
            if "dequantize" in str(weight.target):
                counts[kinds[name[1]]] += 1
    return dict(counts)


def _operations(program: Program) -> Check:
    histogram = program.histogram()
    return {"status": "passed", "detail": f"{sum(histogram.values())} operations", "histogram": histogram}


def _left_in_fp32(program: Program) -> Check:
    """Listed, not forbidden: the casts at the edges, and whatever the converter would not put in fp16."""
    names = [
        f"{op.type} {op.name}"
        for op in program.operations
        if op.type not in ("const", *CASTS) and any(t.dtype == "float32" for t in op.outputs.values())
    ]
    return {"status": "passed", "detail": f"{len(names)} operations compute in fp32", "operations": names}


def _int8(program: Program, module: nn.Module, meant: int | None) -> Check:
    """The check `int8-scheme`: as many layers with int8 weights and input as were quantised and meant to be.

    Nothing else may read a quantised value; scales must survive fp16; numbers must be those of the program.
    """
    made = _producers(program)
    quantised = quantised_layers(module)
    in_int8: list[Operation] = []
    fake: list[str] = []
    half_way: list[str] = []
    floats: Counter[str] = Counter()
    for op in program.operations:
        if op.type not in LAYERS:
            continue
        weights = _made_by(made, op, "weight") == "constexpr_affine_dequantize"
        reads = _made_by(made, op, "x") == "dequantize"
        if weights and reads:
            in_int8.append(op)
        elif reads:
            fake.append(f"{op.type} {op.name}")
        elif weights:
            half_way.append(f"{op.type} {op.name}: weight stored as int8, data read as float")
        else:
            floats[op.type] += 1
    kinds = Counter(op.type for op in in_int8)
    target = sum(quantised.values()) if meant is None else meant
    lost = [f"{n - kinds[kind]} {kind}" for kind, n in sorted(quantised.items()) if n > kinds[kind]]
    if target > sum(quantised.values()):
        lost.append(f"{target - sum(quantised.values())} that were not quantised in the program")
    other = half_way
    if len(in_int8) > target:
        other.append(f"{len(in_int8)} layers run in int8, the scheme selected {target}")
    smallest, vanished = _smallest_scale(program)
    if vanished:
        other.append(f"scales that became 0: {', '.join(vanished)}")
    stored = _stored_bytes(program)
    numbers = program_layers(module) if isinstance(module, GraphModule) else []
    found = [layer for op in in_int8 if (layer := _numbers(program, made, op)) is not None]
    findings = Int8Findings(
        meant=target,
        int8_ops=dict(kinds),
        float_ops=dict(floats),
        int8_weight_bytes=stored.get("int8", 0),
        not_int8=lost,
        float_weights=fake,
        fragile=_fragile(program, made),
        per_tensor=[op.name for op in in_int8 if _weight_scales(made, op) == 1],
        scales=differing(found, numbers) if numbers and not vanished else [],
        other=other,
    )
    figures = {"smallest_scale": smallest, "fp16_subnormal": smallest < SMALLEST_NORMAL_FP16, "stored_bytes": stored}
    return findings.record() | figures


def _fragile(program: Program, made: Mapping[str, Operation]) -> list[str]:
    """Residual adds, LayerNorms, softmaxes, attention products or others that read a quantised value."""
    return [
        f"{op.type} {op.name}"
        for op in program.operations
        if op.type not in LAYERS
        for key in op.inputs
        if _made_by(made, op, key) in ("dequantize", "constexpr_affine_dequantize")
    ]


def _stored_bytes(program: Program) -> dict[str, int]:
    """Bytes of constants in the weight file by type."""
    stored: Counter[str] = Counter()
    for op in program.operations:
        for key in op.stored:
            constant = op.value if op.type == "const" else op.inputs[key][0]
            assert isinstance(constant, np.ndarray)
            stored[str(constant.dtype)] += constant.nbytes
    return dict(sorted(stored.items()))


def _smallest_scale(program: Program) -> tuple[float, list[str]]:
    """The smallest scale, and the operations with one that became 0: it breaks a layer without a word."""
    smallest = float("inf")
    wrong = []
    for op in program.operations:
        if op.type in ("quantize", "dequantize", "constexpr_affine_dequantize"):
            low = float(np.abs(_argument(program, op, "scale").astype(np.float64)).min())
            smallest = min(smallest, low)
            if low == 0.0:
                wrong.append(op.name)
    return smallest, wrong


def _argument(program: Program, op: Operation, key: str) -> NDArray[Any]:
    """A constant input, bound in place or by name."""
    argument = op.inputs[key][0]
    if key in op.bound:
        return np.asarray(argument)
    value = next(o.value for o in program.operations if o.type == "const" and str(argument) in o.outputs)
    return np.asarray(value)


def _weight_scales(made: Mapping[str, Operation], op: Operation) -> int:
    """How many scales the weight has; 2 for a layer of one channel, which cannot have more."""
    weight = made[str(op.inputs["weight"][0])]
    channels = np.asarray(weight.inputs["quantized_data"][0]).shape[0]
    return max(2 if channels == 1 else 1, int(np.asarray(weight.inputs["scale"][0]).size))


def _numbers(program: Program, made: Mapping[str, Operation], op: Operation) -> Int8Layer | None:
    """Dequantised weight and input scale as stored; None for transposed convolutions."""
    if op.type == "conv_transpose":
        return None
    weight = made[str(op.inputs["weight"][0])]
    stored, scale, zero = (
        np.asarray(weight.inputs[key][0], np.float32) for key in ("quantized_data", "scale", "zero_point")
    )
    shape = (-1, *[1] * (stored.ndim - 1))
    array = (stored - zero.reshape(shape if zero.size > 1 else ())) * scale.reshape(shape if scale.size > 1 else ())
    step = _argument(program, made[str(op.inputs["x"][0])], "scale")
    return Int8Layer(op.name, rows(array), float(step.ravel()[0]))


def _producers(program: Program) -> dict[str, Operation]:
    return {name: op for op in program.operations for name in op.outputs}


def _made_by(made: Mapping[str, Operation], op: Operation, key: str) -> str | None:
    """Type of the operation that makes the input `key`, None for the program's input or a bound constant."""
    if key in op.bound or key not in op.inputs:
        return None
    producer = made.get(str(op.inputs[key][0]))
    return producer.type if producer else None
