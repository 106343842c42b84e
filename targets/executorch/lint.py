"""What a saved .pte file really computes in int8: counted from the file, not believed from the recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn
from torch.fx import GraphModule

from datk.targets import int8_record
from datk.targets.executorch.program import Node, PteProgram, Value
from datk.targets.int8_layers import Int8Layer, differing, program_layers, rows
from datk.targets.int8_record import Int8Findings

WEIGHTED = ("FullyConnected", "Conv2d", "DepthwiseConv2d", "ConvTranspose2d")
"""XNNPACK's operations that multiply by weights."""
MOVES = frozenset(
    {
        *("Convert", "StaticReshape", "StaticTranspose", "StaticSlice", "StaticConstantPad", "Copy", "Clamp"),
        *("Concatenate2", "Concatenate3", "Concatenate4", "Concatenate5"),
    }
)
"""Operations that hand int8 on, or turn it into float and back."""


def check_int8(program: PteProgram, quantised: nn.Module, wanted: Sequence[str], *, adds: int = 0) -> dict[str, Any]:
    """The check `int8-scheme`: the layers the scheme selects are int8 nodes of XNNPACK per channel, nothing fragile is.

    quantised: NNCF's program, whose weights and input scales the file must hold. wanted: the scheme's layers by name.
    adds: how many adds the scheme quantises (of a net of convolutions alone).
    """
    layers = [node for node in program.nodes if node.kind in WEIGHTED and len(node.inputs) > 1]
    layers = [node for node in layers if node.inputs[1].constant]
    in_int8 = [node for node in layers if runs_in_int8(node)]
    meant = program_layers(quantised) if isinstance(quantised, GraphModule) else []
    numbers = [Int8Layer(node.where, _weight(node), _step(node.inputs[0])) for node in in_int8]
    touched = Counter(
        node.kind
        for node in program.nodes
        if node.kind not in (*WEIGHTED, *MOVES) and any(v.is_int8 for v in (*node.inputs, node.output))
    )
    kept = {"Add"} if 0 < touched["Add"] <= adds else set()
    short = len(wanted) - len(in_int8)
    mixed = [node.where for node in layers if not runs_in_int8(node) and node.inputs[1].is_int8]
    return Int8Findings(
        meant=len(wanted),
        int8_ops=dict(Counter(node.kind for node in in_int8)),
        float_ops=dict(Counter(node.kind for node in layers if not runs_in_int8(node))),
        int8_weight_bytes=sum(len(node.inputs[1].data or b"") for node in in_int8),
        not_int8=_left(wanted, meant, numbers) if short > 0 else [],
        fragile=[f"{n} {kind}" for kind, n in sorted(touched.items()) if kind not in kept],
        per_tensor=[n.where for n in in_int8 if n.inputs[1].kind != "qcint8"],
        scales=differing(numbers, meant) if meant else [],
        other=[
            *([f"{-short} layers run in int8 though the scheme keeps them in float"] if short < 0 else []),
            *([f"{len(mixed)} nodes mix int8 and float: {int8_record.some(mixed)}"] if mixed else []),
            *([f"{touched['Add']} adds run in int8, the scheme quantises {adds}"] if touched["Add"] < adds else []),
            *_quantising_kernels(program),
        ],
    ).record()


def check_float(program: PteProgram) -> dict[str, Any]:
    """The check `weights` of an fp32 file: every layer's weights and every activation are float32."""
    layers = [node for node in program.nodes if node.kind in WEIGHTED and len(node.inputs) > 1]
    wrong = [f"{n.where} ({n.inputs[1].kind})" for n in layers if n.inputs[1].kind != "fp32"]
    touched = [n.where for n in program.nodes if any(v.is_int8 for v in (*n.inputs, n.output))]
    problems = [
        *([f"{len(wrong)} layers are not stored as fp32: {int8_record.some(wrong)}"] if wrong else []),
        *([] if layers else ["XNNPACK runs no layer with weights"]),
        *([f"{len(touched)} nodes of a float file touch int8: {int8_record.some(touched)}"] if touched else []),
    ]
    return {
        "status": "failed" if problems else "passed",
        "detail": "; ".join(problems) or f"{len(layers)} layers, weights stored as fp32",
        "stored": dict(sorted(Counter(n.inputs[1].kind for n in layers).items())),
    }


def runs_in_int8(node: Node) -> bool:
    """Data, weights and output of a node with weights are all stored as int8."""
    return node.inputs[0].is_int8 and node.inputs[1].is_int8 and node.output.is_int8


def _quantising_kernels(program: PteProgram) -> list[str]:
    """A sentence when ExecuTorch's own kernels quantise: XNNPACK was to do that."""
    outside = [k.name for k in program.kernels if "quantize" in k.name]
    return [f"{len(outside)} tensors are quantised outside XNNPACK: {int8_record.some(outside)}"] if outside else []


def _left(wanted: Sequence[str], meant: Sequence[Int8Layer], found: Sequence[Int8Layer]) -> list[str]:
    """Names of the wanted layers that no int8 node is left for; nodes carry no names, so weights tell them apart."""
    shapes = Counter(layer.weight.shape for layer in found)
    left = []
    for layer in meant:
        if shapes[layer.weight.shape] > 0:
            shapes[layer.weight.shape] -= 1
        else:
            left.append(layer.name)
    return left or list(wanted)


def _weight(node: Node) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(out, rest in torch's order) float32: what an int8 node's weights are worth."""
    weight = node.inputs[1]
    stored = np.frombuffer(weight.data or b"", np.int8)[: int(np.prod(weight.shape))].reshape(weight.shape)
    scales = np.ones(1, np.float32) if weight.scales is None else weight.scales
    if node.kind == "DepthwiseConv2d":  # (1, height, width, channels)
        return rows((stored.astype(np.float32) * scales).transpose(3, 0, 1, 2))
    array = stored.astype(np.float32) * scales.reshape(-1, *[1] * (stored.ndim - 1))
    return rows(array.transpose(0, 3, 1, 2) if array.ndim == 4 else array)  # (out, height, width, in) of convolutions


def _step(value: Value) -> float | None:
    return None if value.scales is None else float(value.scales[0])
