"""Make every activation zero point 0, for compilers that accept no other (TensorRT).

With a symmetric scheme NNCF still spreads the 255 levels over [0, max] when a tensor is never
negative, which gives int8 a zero point of -127. Zero point 0 with twice the scale covers the same
maximum with half as many levels.
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node


def symmetric_scale(scale: float, zero_point: int, quant_min: int, quant_max: int) -> float:
    """Scale with zero point 0 whose range [-quant_max*s, quant_max*s] holds the asymmetric one's.

    scale: real units per step; zero_point, quant_min, quant_max: integers of the same 8-bit type.
    The lower end counts only as far as it reaches beyond the symmetric range's own -quant_max step.
    """
    if zero_point == 0:
        return scale
    reach = max(quant_max - zero_point, zero_point - quant_min)
    return scale * reach / quant_max


def make_activations_symmetric(program: GraphModule) -> int:
    """Rewrite scale and zero point of all per-tensor quantize/dequantize pairs in place; returns how many changed.

    program: NNCF's quantised module with int8 `quantized_decomposed` ops. A quantize node and the
    dequantize nodes that read it always get the same scale.
    """
    ops = torch.ops.quantized_decomposed
    changed = 0
    for node in list(program.graph.nodes):
        if node.target is not ops.quantize_per_tensor.default:
            continue
        scale, zero_point, quant_min, quant_max = _parameters(node)
        if zero_point == 0:
            continue
        new_scale = symmetric_scale(scale, zero_point, quant_min, quant_max)
        readers = [user for user in node.users if user.target is ops.dequantize_per_tensor.default]
        assert len(readers) == len(node.users), f"{node.name}: something other than dequantize reads int8 values"
        for part in (node, *readers):
            part.args = (part.args[0], new_scale, 0, *part.args[3:])
        changed += 1
    program.recompile()
    return changed


def activation_zero_points(program: GraphModule) -> list[int]:
    """Zero point of every per-tensor activation quantize node, in graph order."""
    wanted = torch.ops.quantized_decomposed.quantize_per_tensor.default
    return [_parameters(node)[1] for node in program.graph.nodes if node.target is wanted]


def _parameters(node: Node) -> tuple[float, int, int, int]:
    scale, zero_point, quant_min, quant_max = node.args[1:5]
    assert isinstance(scale, float) and isinstance(zero_point, int)
    assert isinstance(quant_min, int) and isinstance(quant_max, int)
    return scale, zero_point, quant_min, quant_max
