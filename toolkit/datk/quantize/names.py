"""Give folded int8 weights the names of the float weights they came from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.fx import GraphModule, Node

from datk.targets.pt2e import weighted_nodes


def name_weights(program: GraphModule, names: Sequence[str]) -> int:
    """Move every `_frozen_paramN` that is a layer's weight to `<layer>.weight`, in place; returns how many moved.

    program: NNCF's folded module. names: datk.targets.pt2e.layer_names of the float program, whose layers stand in
    the same order. Reports, file lints and bisections then speak of `net.pretrained.blocks.3.mlp.fc2`.
    """
    moved = 0
    for node, name in zip(weighted_nodes(program), names, strict=True):
        source = _stored(node)
        if source is None or str(source.target) == f"{name}.weight":
            continue
        value = getattr(program, str(source.target), None)
        if not isinstance(value, torch.Tensor) or len(source.users) != 1:
            continue
        owner = _module_at(program, name)
        if hasattr(owner, "weight"):
            delattr(owner, "weight")
        owner.register_buffer("weight", value)
        delattr(program, str(source.target))
        source.target = f"{name}.weight"
        moved += 1
    program.graph.lint()
    program.recompile()
    return moved


def _stored(node: Node) -> Node | None:
    """The attribute at the start of a weight's chain."""
    weight = node.args[1]
    while isinstance(weight, Node) and weight.op == "call_function":
        weight = weight.args[0]
    return weight if isinstance(weight, Node) and weight.op == "get_attr" else None


def _module_at(program: GraphModule, path: str) -> nn.Module:
    """The submodule at a dotted path, made where the program lacks it."""
    module: nn.Module = program
    for part in path.split("."):
        if not hasattr(module, part):
            module.add_module(part, nn.Module())
        module = getattr(module, part)
    return module
