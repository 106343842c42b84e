"""Fold SmoothQuant's factors into the LayerNorm before them, so that they cost nothing on the device."""

from __future__ import annotations

import torch
from torch import nn
from torch.fx import GraphModule, Node


def fold_smooth_scales(program: GraphModule) -> int:
    """(LN(x)) * s becomes LN with weight * s and bias * s, in place; returns how many factors went.

    program: NNCF's quantised module, where each factor is an FXSQMultiply submodule. A factor stays when its
    LayerNorm feeds something else too or shares its weights with another.
    """
    readers: dict[str, int] = {}
    for node in program.graph.nodes:
        if node.op == "get_attr":
            readers[str(node.target)] = readers.get(str(node.target), 0) + len(node.users)
    folded = 0
    for node in list(program.graph.nodes):
        factor = _factor(program, node)
        norm = node.args[0] if factor is not None else None
        if factor is None or not isinstance(norm, Node) or norm.target is not torch.ops.aten.layer_norm.default:
            continue
        weight, bias = norm.args[2:4]
        if not isinstance(weight, Node) or not isinstance(bias, Node) or len(norm.users) != 1:
            continue
        if readers.get(str(weight.target)) != 1 or readers.get(str(bias.target)) != 1:
            continue
        for part in (weight, bias):
            _scale_parameter(program, str(part.target), factor)
        node.replace_all_uses_with(norm)
        program.graph.erase_node(node)
        folded += 1
    program.graph.lint()
    program.recompile()
    return folded


def _factor(program: GraphModule, node: Node) -> torch.Tensor | None:
    """The factor a node multiplies by, if it is one of SmoothQuant's."""
    if node.op != "call_module":
        return None
    module = program.get_submodule(str(node.target))
    value = getattr(module, "_scale_value", None)
    return value if type(module).__name__ == "FXSQMultiply" and isinstance(value, torch.Tensor) else None


def _scale_parameter(program: GraphModule, name: str, factor: torch.Tensor) -> None:
    """Replace a parameter by its product with factor; the tensor it shared with the float net stays as it was."""
    path, _, leaf = name.rpartition(".")
    owner = program.get_submodule(path)
    old = getattr(owner, leaf)
    assert isinstance(old, torch.Tensor)
    setattr(owner, leaf, nn.Parameter(old.detach() * factor.detach().reshape(old.shape), requires_grad=False))
