"""Attention in plain operations on 4-D tensors: no einsum, no 5-D tensor, no fused kernel a compiler may lack.

TensorRT 8.6 cannot build the einsum form, mobile GPU delegates refuse more than four dimensions.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from datk.models.depth_anything import DepthAnything
from datk.models.dinov2 import Attention, Block, DinoV2


class ExplicitAttention(Attention):
    """softmax(q k^T / sqrt(d)) v as matmul, softmax, matmul."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split_heads(x)
        weights = torch.softmax(torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(2, 3)), dim=-1)  # (B, heads, N, N)
        return self.merge_heads(torch.matmul(weights, v))


def write_out_attention(net: DepthAnything) -> int:
    """Make every DINOv2 block's attention explicit, in place; returns how many."""
    encoder = net.pretrained
    if not isinstance(encoder, DinoV2):
        return 0
    attentions = [cast(Block, block).attn for block in encoder.blocks]
    for attention in attentions:
        attention.__class__ = ExplicitAttention
    return len(attentions)
