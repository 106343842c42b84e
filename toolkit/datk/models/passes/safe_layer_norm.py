"""LayerNorm that cannot overflow when a runtime computes it piece by piece in half precision.

A decomposed LayerNorm squares the deviations: 256 and more is infinite in float16, and DINOv2's residual stream
reaches 1,400. Here they are divided by the token's largest first. With m = max|d|, s = d/m:
d / sqrt(mean(d^2) + eps) == s / sqrt(mean(s^2) + (sqrt(eps)/m)^2), where |s| <= 1 and mean(s^2) >= 1/C.
For compilers without a LayerNormalization op whose runtime may choose float16 (LiteRT's GPU delegate).
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

SMALLEST_DEVIATION = 2.0**-14
"""Smallest normal half; a token flatter than that comes out as its bias either way."""


class SafeLayerNorm(nn.LayerNorm):
    """Over the last axis, with weight and bias; the same function as nn.LayerNorm up to rounding."""

    def forward(self, x: Tensor) -> Tensor:
        d = x - x.mean(-1, keepdim=True)
        m = d.abs().amax(-1, keepdim=True).clamp_min(SMALLEST_DEVIATION)
        s = d / m
        root = math.sqrt(self.eps) / m
        y = s * torch.rsqrt((s * s).mean(-1, keepdim=True) + root * root)
        return y * self.weight + self.bias


def write_out_safe_layer_norms(net: nn.Module) -> int:
    """Make every LayerNorm over one axis a SafeLayerNorm, in place; returns how many."""
    found = [
        m for m in net.modules() if type(m) is nn.LayerNorm and len(m.normalized_shape) == 1 and m.bias is not None
    ]
    for norm in found:
        norm.__class__ = SafeLayerNorm
    return len(found)


def with_safe_layer_norms(module: nn.Module) -> nn.Module:
    """A copy of a net, or of an exported program, whose LayerNorms over the last axis are safe; the same function."""
    copied = copy.deepcopy(module)
    if not isinstance(copied, GraphModule):
        write_out_safe_layer_norms(copied)
        return copied
    aten = torch.ops.aten
    graph = copied.graph
    for node in list(graph.nodes):
        if node.target is not aten.layer_norm.default or len(node.args[1]) != 1 or len(node.args) < 4:
            continue
        x, _, weight, bias = node.args[:4]
        eps = float(node.args[4]) if len(node.args) > 4 else 1e-5
        with graph.inserting_before(node):

            def call(target: object, *args: object, graph: object = graph, **kwargs: object) -> object:
                return graph.call_function(target, args, kwargs)  # type: ignore[attr-defined]

            d = call(aten.sub.Tensor, x, call(aten.mean.dim, x, [-1], True))
            m = call(aten.clamp_min.default, call(aten.amax.default, call(aten.abs.default, d), [-1], True), 2.0**-14)
            s = call(aten.div.Tensor, d, m)
            root = call(aten.mul.Tensor, call(aten.reciprocal.default, m), math.sqrt(eps))
            square = call(aten.mean.dim, call(aten.mul.Tensor, s, s), [-1], True)
            scale = call(aten.rsqrt.default, call(aten.add.Tensor, square, call(aten.mul.Tensor, root, root)))
            y = call(aten.mul.Tensor, call(aten.mul.Tensor, s, scale), weight)
            y = call(aten.add.Tensor, y, bias)
        node.replace_all_uses_with(y)
        graph.erase_node(node)
    graph.lint()
    copied.recompile()
    return copied
