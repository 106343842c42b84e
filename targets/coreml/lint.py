"""What the saved package really holds: which operations, which are int8, what stayed in fp32."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from datk.depth.io_spec import Contract
from datk.targets.coreml.reference.program import Operation, Program

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
        checks["int8_layers"] = _int8_layers(program, quantised_layers(module), meant)
        checks["kept_in_float"] = _kept_in_float(program)
        checks["int8_storage"] = _int8_storage(program)
        checks["int8_scales"] = _int8_scales(program)
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


def _int8_layers(program: Program, quantised: Mapping[str, int], meant: int | None) -> Check:
    """As many layers with int8 weights and with a quantised input as were quantised, and as were meant to be."""
    made = _producers(program)
    weights = dict.fromkeys(LAYERS, 0)
    activations = dict.fromkeys(LAYERS, 0)
    for op in program.operations:
        if op.type in LAYERS:
            weights[op.type] += _made_by(made, op, "weight") == "constexpr_affine_dequantize"
            activations[op.type] += _made_by(made, op, "x") == "dequantize"
    total = sum(quantised.values())
    target = total if meant is None else meant
    right = 0 < total == target and all(weights[k] == activations[k] == quantised.get(k, 0) for k in LAYERS)
    kinds = (f"{k} {weights[k]}/{activations[k]}/{quantised.get(k, 0)}" for k in LAYERS)
    return {
        "status": "passed" if right else "failed",
        "detail": f"{target} layers meant; with int8 weights / int8 input / quantised: {', '.join(kinds)}",
        "int8_weights": sum(weights.values()),
        "int8_activations": sum(activations.values()),
        "quantised": total,
        "meant": target,
    }


def _kept_in_float(program: Program) -> Check:
    """No residual add, LayerNorm, softmax, attention matmul or other operation reads a quantised value."""
    made = _producers(program)
    wrong = [
        f"{op.type} {op.name}"
        for op in program.operations
        if op.type not in LAYERS
        for key in op.inputs
        if _made_by(made, op, key) in ("dequantize", "constexpr_affine_dequantize")
    ]
    return {
        "status": "failed" if wrong else "passed",
        "detail": f"quantised, though float was meant: {', '.join(wrong)}" if wrong else "only layers read int8",
        "operations": wrong,
    }


def _int8_storage(program: Program) -> Check:
    """Bytes of constants in the weight file by type; the quantised weights must be stored in int8."""
    stored: Counter[str] = Counter()
    for op in program.operations:
        for key in op.stored:
            constant = op.value if op.type == "const" else op.inputs[key][0]
            assert isinstance(constant, np.ndarray)
            stored[str(constant.dtype)] += constant.nbytes
    return {
        "status": "passed" if stored["int8"] else "failed",
        "detail": ", ".join(f"{n} bytes of {kind}" for kind, n in sorted(stored.items())),
        "stored_bytes": dict(sorted(stored.items())),
    }


def _int8_scales(program: Program) -> Check:
    """Scales too small for fp16 lose digits or vanish; that breaks a layer without a word."""
    values = {op.name: op.value for op in program.operations if op.type == "const"}
    wrong = []
    smallest = float("inf")
    for op in program.operations:
        if op.type not in ("quantize", "dequantize", "constexpr_affine_dequantize"):
            continue
        argument = op.inputs["scale"][0]
        scale = argument if "scale" in op.bound else values.get(str(argument))
        if isinstance(scale, np.ndarray):
            low = float(np.abs(scale.astype(np.float64)).min())
            smallest = min(smallest, low)
            if low == 0.0:
                wrong.append(op.name)
    subnormal = smallest < SMALLEST_NORMAL_FP16
    return {
        "status": "failed" if wrong else "passed",
        "detail": f"scales that became 0: {', '.join(wrong)}" if wrong else f"smallest scale {smallest:.3g}",
        "smallest_scale": smallest,
        "fp16_subnormal": subnormal,
    }


def _producers(program: Program) -> dict[str, Operation]:
    return {name: op for op in program.operations for name in op.outputs}


def _made_by(made: Mapping[str, Operation], op: Operation, key: str) -> str | None:
    """Type of the operation that makes the input `key`, None for the program's input or a bound constant."""
    if key in op.bound or key not in op.inputs:
        return None
    producer = made.get(str(op.inputs[key][0]))
    return producer.type if producer else None
