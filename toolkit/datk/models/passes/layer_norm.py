"""A LayerNorm written out by hand becomes the one operation compilers accumulate in float32.

Decomposed, its squares overflow in half precision (a ViT-B fell from 85 to 19 % top-1 that way on a Jetson). The
nets here use nn.LayerNorm; an encoder from elsewhere may not. Recognised in the exported graph, over the last axis:
d = x - mean(x); d / sqrt(mean(d^2) + eps), with d^2 as pow or product, as rsqrt or as division by sqrt.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

_aten = torch.ops.aten
_MEAN = (_aten.mean.dim,)
_ADD = (_aten.add.Tensor, _aten.add_.Tensor)
_MUL = (_aten.mul.Tensor, _aten.mul_.Tensor)
_DIV = (_aten.div.Tensor, _aten.div_.Tensor)


def single_layer_norm(graph: Graph) -> int:
    """Replace every such pattern of an exported ATen graph, in place; returns how many. The affine part stays."""
    found = 0
    for node in list(graph.nodes):
        match = _normalised(node)
        if match is None:
            continue
        x, eps = match
        width = x.meta["val"].shape[-1]
        with graph.inserting_before(node):
            norm = graph.call_function(_aten.layer_norm.default, (x, [width], None, None, eps))
        norm.meta = dict(node.meta)
        node.replace_all_uses_with(norm)
        found += 1
    if found:
        graph.eliminate_dead_code()
        graph.lint()
    return found


def _normalised(node: Any) -> tuple[Node, float] | None:
    """(x, eps) when node is d * rsqrt(var + eps) or d / sqrt(var + eps)."""
    if _is(node, _MUL):
        for d, scale in (node.args[:2], node.args[1::-1]):
            if _is(scale, (_aten.rsqrt.default,)) and (found := _variance(d, scale.args[0])) is not None:
                return found
    if _is(node, _DIV) and _is(node.args[1], (_aten.sqrt.default,)):
        return _variance(node.args[0], node.args[1].args[0])
    return None


def _variance(d: Any, shifted: Any) -> tuple[Node, float] | None:
    """(x, eps) when d is x - mean(x) and shifted is mean(d^2) + eps, both over the last axis."""
    if not (_is(shifted, _ADD) and isinstance(shifted.args[1], float | int)):
        return None
    variance = shifted.args[0]
    if not (_over_last(variance) and _is(d, (_aten.sub.Tensor,))):
        return None
    x, mean = d.args[0], d.args[1]
    if not (isinstance(x, Node) and _over_last(mean) and mean.args[0] is x):
        return None
    square = variance.args[0]
    power = _is(square, (_aten.pow.Tensor_Scalar,)) and square.args[1] == 2 and _same(square.args[0], d)
    product = _is(square, _MUL) and _same(square.args[0], d) and _same(square.args[1], d)
    return (x, float(shifted.args[1])) if power or product else None


def _same(node: Any, d: Any) -> bool:
    """The node d itself, or another subtraction of the same two values: exporters do not share them."""
    return node is d or (_is(node, (_aten.sub.Tensor,)) and node.args == d.args)


def _over_last(node: Any) -> bool:
    if not (_is(node, _MEAN) and len(node.args) > 2 and node.args[2] is True):
        return False
    return list(node.args[1]) in ([-1], [node.args[0].meta["val"].ndim - 1])


def _is(node: Any, targets: tuple[Any, ...]) -> bool:
    return isinstance(node, Node) and node.op == "call_function" and node.target in targets
