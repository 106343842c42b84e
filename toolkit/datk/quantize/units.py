"""What a sensitivity map measures: single layers, blocks of layers, and kinds of operation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch.fx import GraphModule, Node

from datk.targets.pt2e import layer_name

Level = Literal["layer", "block", "kind"]
_aten = torch.ops.aten
LAYERS = (_aten.linear.default, _aten.conv2d.default, _aten.conv_transpose2d.input)
FLOAT_KINDS = {
    "residual add": (_aten.add.Tensor,),
    "layer_norm": (_aten.layer_norm.default,),
    "softmax": (_aten.softmax.int,),
    "attention matmul": (_aten.matmul.default,),
    "gelu": (_aten.gelu.default,),
    "resize": (_aten.upsample_bilinear2d.vec,),
}
"""Operations without weights whose result is quantised, all of a kind at once."""
_MOBILE = {"expand_1x1": "expand", "conv_3x3": "depthwise", "depthwise": "depthwise", "reduce_1x1": "reduce"}
_KINDS = ("patch_embed", "projects", "resize_layers", "output_conv", "qkv", "proj", "fc1", "fc2", "w12", "w3")
_BLOCK = re.compile(
    r"(pretrained\.blocks\.\d+|pretrained\.patch_embed|depth_head\.(projects|resize_layers)\.\d+"
    r"|pretrained\.conv_stem|depth_head\.(lateral|refine)\.\d+|depth_head\.tail"
    r"|depth_head\.scratch\.(layer\d_rn|refinenet\d|output_conv\d))"
)


@dataclass(frozen=True)
class Unit:
    """Nodes that are quantised together while everything else stays float."""

    name: str
    """Module path of a layer or block; name of a kind."""
    level: Level
    kind: str
    """Of a layer: qkv, proj, fc1, ..., expand, depthwise, reduce, conv."""
    nodes: tuple[str, ...]
    """Of the exported program, in order."""
    weighted: bool = True
    """True: layers, whose input and weight are quantised; False: operations whose result is."""


def units_of(program: GraphModule) -> list[Unit]:
    """Layers in order, then blocks of at least two layers, then kinds with and without weights."""
    layers = [
        Unit(official(layer_name(node)), "layer", kind_of(official(layer_name(node))), (node.name,))
        for node in treated_nodes(program)
    ]
    blocks: dict[str, list[Unit]] = {}
    kinds: dict[str, list[Unit]] = {}
    for layer in layers:
        kinds.setdefault(layer.kind, []).append(layer)
        found = _BLOCK.match(layer.name)
        if found:
            blocks.setdefault(found.group(), []).append(layer)
    levels: tuple[tuple[Level, dict[str, list[Unit]]], ...] = (("block", blocks), ("kind", kinds))
    grouped = [
        Unit(name, level, name if level == "kind" else "block", tuple(n for layer in several for n in layer.nodes))
        for level, groups in levels
        for name, several in groups.items()
        if len(several) > 1
    ]
    image = depends_on_image(program)
    for name, targets in FLOAT_KINDS.items():
        nodes = tuple(n.name for n in program.graph.nodes if n.target in targets and n.name in image)
        if nodes:
            grouped.append(Unit(name, "kind", name, nodes, weighted=False))
    return [*layers, *grouped]


def treated_nodes(program: GraphModule) -> list[Node]:
    """Every linear and convolution of an exported program, in order."""
    return [n for n in program.graph.nodes if n.op == "call_function" and n.target in LAYERS]


def depends_on_image(program: GraphModule) -> frozenset[str]:
    """Names of the nodes the input reaches."""
    reached: set[str] = set()
    for node in program.graph.nodes:
        if node.op == "placeholder" or any(n.name in reached for n in node.all_input_nodes):
            reached.add(node.name)
    return frozenset(reached)


def official(path: str) -> str:
    """Module path below the deployment module's `net.`: the name checkpoints and schemes know."""
    return path.removeprefix("net.")


def kind_of(layer: str) -> str:
    """qkv, proj, fc1, fc2, ... from a layer's path; the head's 3x3 convolutions are `conv`."""
    parts = layer.split(".")
    for part in parts:
        if part in _MOBILE:
            return _MOBILE[part]
    for kind in _KINDS:
        if any(part.startswith(kind) for part in parts):
            return kind
    return "conv"
