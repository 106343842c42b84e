"""The int8 layers of a program and of a saved file in one form, so that the two can be compared number by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx import GraphModule, Node

from datk.targets.pt2e import layer_names, weighted_nodes

MOST_OFF = 0.1
"""Relative: half-precision scales move a weight by 1e-3, a wrong scale by a factor."""
LEAST_COSINE = 0.9
SMALLEST_ROW = 1e-3
"""Rows of weights below this part of the layer's largest row say nothing."""


@dataclass(frozen=True, eq=False)
class Int8Layer:
    """One linear or convolution that reads int8 data and has int8 weights."""

    name: str
    weight: NDArray[np.float32]
    """Dequantised, (output channels, the rest in torch's order)."""
    input_scale: float | None
    """Real units per step of its input; None where the file does not tell."""


def program_layers(program: GraphModule) -> list[Int8Layer]:
    """The quantised linears and convolutions of NNCF's program, folded or not, in graph order."""
    ops = torch.ops.quantized_decomposed
    found = []
    for node, name in zip(weighted_nodes(program), layer_names(program), strict=True):
        data, weight = node.args[0], node.args[1]
        quantised = "dequantize" in str(getattr(weight, "target", ""))
        if node.target is torch.ops.aten.conv_transpose2d.input or not quantised:
            continue
        assert isinstance(data, Node) and isinstance(weight, Node)
        values = _constant(program, weight)
        assert isinstance(values, torch.Tensor)
        scale = data.args[1] if data.target is ops.dequantize_per_tensor.default else None
        found.append(Int8Layer(name, rows(values.numpy()), scale if isinstance(scale, float) else None))
    return found


def rows(weight: NDArray[Any]) -> NDArray[np.float32]:
    """(out, ...) -> (out, rest) float32."""
    return np.ascontiguousarray(weight.reshape(weight.shape[0], -1), np.float32)


def differing(found: Sequence[Int8Layer], meant: Sequence[Int8Layer]) -> list[str]:
    """Sentences on layers whose weights or input scale in the file are not those of the program; empty: all agree.

    Layers are matched by shape and direction of their weights, because converters rename and reorder. Named as in the
    program. A layer of the file that matches none is named as in the file; how many there must be is not judged here.
    """
    problems = []
    left = list(meant)
    for layer in found:
        candidates = [m for m in left if m.weight.shape == layer.weight.shape]
        cosines = [_cosine(layer.weight, m.weight) for m in candidates]
        if not cosines or max(cosines) < LEAST_COSINE:
            problems.append(f"{layer.name}: its weights are those of no layer of the program")
            continue
        match = candidates[int(np.argmax(cosines))]
        left = [m for m in left if m is not match]
        if (off := _gain(layer.weight, match.weight)) is not None:
            problems.append(f"{match.name}: weights are {off:.3g} times the program's")
        steps = layer.input_scale / match.input_scale if layer.input_scale and match.input_scale else 1.0
        if abs(steps - 1) > MOST_OFF:
            problems.append(f"{match.name}: the scale of its input is {steps:.3g} times the program's")
    return problems


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    norms = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(np.vdot(a, b)) / norms if norms > 0 else 0.0


def _gain(found: NDArray[np.float32], meant: NDArray[np.float32]) -> float | None:
    """Factor of the output channel that is furthest off, None when all are right."""
    power = np.einsum("oi,oi->o", meant, meant)
    told = power > SMALLEST_ROW**2 * power.max()
    gains = np.einsum("oi,oi->o", found, meant)[told] / power[told]
    worst = float(gains[np.argmax(np.abs(gains - 1))])
    return worst if abs(worst - 1) > MOST_OFF else None


def _constant(program: GraphModule, node: Any) -> Any:
    """Value of a constant part of the graph."""
    if not isinstance(node, Node):
        return node
    if node.op == "get_attr":
        value: Any = program
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value.detach()
    assert node.op == "call_function" and callable(node.target), f"{node.name}: a weight made from an input"
    return node.target(*(_constant(program, a) for a in node.args), **node.kwargs)
