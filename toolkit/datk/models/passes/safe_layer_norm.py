"""LayerNorm that cannot overflow when a runtime computes it piece by piece in half precision.

A decomposed LayerNorm squares the deviations: 256 and more is infinite in float16, and DINOv2's residual stream
reaches 1,400. Here they are divided by the token's largest first. With m = max|d|, s = d/m:
d / sqrt(mean(d^2) + eps) == s / sqrt(mean(s^2) + (sqrt(eps)/m)^2), where |s| <= 1 and mean(s^2) >= 1/C.
For compilers without a LayerNormalization op whose runtime may choose float16 (LiteRT's GPU delegate).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

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
