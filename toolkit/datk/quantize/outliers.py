"""Take massive output channels out of a linear before its output is quantised per tensor.

LiteRT runs a linear in int8 only with an int8 output, and that output has one scale. In DINOv2 a few channels of the
attention projection and of fc2 write values hundreds of times larger than the rest: one scale for all leaves the rest
no levels. The rows of those channels are divided by a power of two, and one multiplication in float, between the linear
and the residual add that is in float anyway, puts it back. The function is unchanged, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule, Interpreter, Node

from datk.quantize.calibration import input_tensor
from datk.targets.base import InputForm
from datk.targets.pt2e import LinearConvQuantizer, layer_name

SCALE = "output_scale_of_layer_"
"""How the factors' attributes begin."""
IMAGES = 8
TOO_WIDE = 8.0
"""Largest channel over the median one from which a layer is split: three of eight bits are lost there."""


def split_outliers(
    program: GraphModule,
    quantizer: LinearConvQuantizer,
    images: Sequence[NDArray[np.uint8]],
    *,
    input_form: InputForm,
) -> list[str]:
    """Rewrite the linears of an exported float program whose outputs are too wide, in place; returns their names.

    Only layers that quantizer selects. images: (h, w, 3) uint8 RGB of the bucket; the first few are run.
    """
    chosen = set(quantizer.selected(program))
    linears = {
        node: layer_name(node)
        for node in program.graph.nodes
        if node.target is torch.ops.aten.linear.default and layer_name(node) in chosen
    }
    watch = _Reach(program, linears)
    with torch.no_grad():
        for image in images[:IMAGES]:
            watch.run(input_tensor(image, input_form))
    changed = []
    for number, (node, name) in enumerate(linears.items()):
        reach = watch.reach[node]  # (out,)
        level = float(reach[reach > 0].median()) if bool((reach > 0).any()) else 0.0
        if level == 0.0 or float(reach.max()) < TOO_WIDE * level:
            continue
        factor = torch.exp2(torch.floor(torch.log2((reach / level).clamp(min=1.0))))
        _split(program, node, factor, f"{SCALE}{number}")
        changed.append(name)
    program.graph.lint()
    program.recompile()
    return changed


def scaled_layer(node: Node) -> Node | None:
    """The linear whose result a multiplication by split_outliers puts right; None for any other node."""
    if node.target is not torch.ops.aten.mul.Tensor or not isinstance(node.args[1], Node):
        return None
    if not str(node.args[1].target).startswith(SCALE):
        return None
    source = node.args[0]
    while isinstance(source, Node) and "quantized_decomposed" in str(source.target):
        source = source.args[0]
    return source if isinstance(source, Node) else None


def _split(program: GraphModule, node: Node, factor: torch.Tensor, attribute: str) -> None:
    """linear(x, W, b) becomes linear(x, W / factor, b / factor) * factor."""
    for part in node.args[1:3]:
        if isinstance(part, Node):
            _divide_rows(program, str(part.target), factor)
    program.register_buffer(attribute, factor)
    users = list(node.users)
    with program.graph.inserting_after(node):
        stored = program.graph.get_attr(attribute)
        stored.meta["val"] = factor
    with program.graph.inserting_after(stored):
        back = program.graph.call_function(torch.ops.aten.mul.Tensor, (node, stored))
        back.meta.update({k: v for k, v in node.meta.items() if k in ("val", "nn_module_stack", "tensor_meta")})
    for user in users:
        user.replace_input_with(node, back)


def _divide_rows(program: GraphModule, name: str, factor: torch.Tensor) -> None:
    """Replace a weight or bias; the tensor it shared with the float net stays as it was."""
    path, _, leaf = name.rpartition(".")
    owner = program.get_submodule(path)
    old = getattr(owner, leaf)
    assert isinstance(old, torch.Tensor)
    rows = factor.reshape(-1, *[1] * (old.ndim - 1))
    setattr(owner, leaf, nn.Parameter(old.detach() / rows, requires_grad=False))


class _Reach(Interpreter):
    """Largest |output| per channel of some linears over everything run."""

    def __init__(self, program: GraphModule, nodes: dict[Node, str]) -> None:
        super().__init__(program)
        self.reach: dict[Node, torch.Tensor] = {}
        self._nodes = nodes

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n in self._nodes:
            found = value.abs().flatten(0, -2).amax(0)
            self.reach[n] = torch.maximum(self.reach[n], found) if n in self.reach else found
        return value
