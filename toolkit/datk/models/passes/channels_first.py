"""Tokens as (B, channels, 1, tokens): the layout Apple's Neural Engine computes in, with 1x1 convolutions for linears.

Apple Machine Learning Research, "Deploying Transformers on the Apple Neural Engine" (2022): channels second, tokens
last, linears as 1x1 convolutions, no transpose on the way. Heads stay one axis of a 4-D matrix product, where Apple
writes an einsum a head. For the DINOv2 encoder; other families keep their own layout.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datk.models.depth_anything import DepthAnything
from datk.models.dinov2 import Attention, Block, DinoV2, Mlp, SwiGlu


class ChannelNorm(nn.Module):
    """LayerNorm over axis 1 of (B, C, 1, N). Written as coremltools knows it: fused to one layer_norm of axes [1]."""

    weight: Tensor
    bias: Tensor

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.eps = norm.eps
        self.register_buffer("weight", norm.weight.detach().reshape(1, -1, 1, 1).clone())
        self.register_buffer("bias", norm.bias.detach().reshape(1, -1, 1, 1).clone())

    def forward(self, x: Tensor) -> Tensor:
        d = x - x.mean(1, keepdim=True)
        y = d * torch.rsqrt((d * d).mean(1, keepdim=True) + self.eps)
        return y * self.weight + self.bias


class ChannelAttention(nn.Module):
    """Self-attention over (B, C, 1, N); queries carry 1/sqrt(d) in their weights."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads = attention.heads
        q, k, v = (part.clone() for part in attention.qkv.weight.detach().chunk(3))
        bq, bk, bv = (part.clone() for part in attention.qkv.bias.detach().chunk(3))
        gain = (q.shape[0] // self.heads) ** -0.5
        self.q, self.k, self.v = _conv(q * gain, bq * gain), _conv(k, bk), _conv(v, bv)
        self.proj = pointwise(attention.proj)

    def forward(self, x: Tensor) -> Tensor:
        b, dim, _, n = x.shape
        split = (b, self.heads, dim // self.heads, n)
        q, k, v = (part(x).reshape(split) for part in (self.q, self.k, self.v))  # each (B, heads, d, N)
        weights = torch.softmax(torch.matmul(q.transpose(2, 3), k), dim=-1)  # (B, heads, N of q, N of k)
        mixed = torch.matmul(v, weights.transpose(2, 3))  # (B, heads, d, N)
        return cast(Tensor, self.proj(mixed.reshape(b, dim, 1, n)))


class ChannelMlp(nn.Module):
    """Mlp, or SwiGlu with its halves as two convolutions, over (B, C, 1, N)."""

    def __init__(self, mlp: Mlp | SwiGlu) -> None:
        super().__init__()
        self.gate: nn.Conv2d | None = None
        if isinstance(mlp, SwiGlu):
            weights, biases = mlp.w12.weight.detach(), mlp.w12.bias.detach()
            self.gate = _conv(weights[: mlp.hidden].clone(), biases[: mlp.hidden].clone())
            self.fc1 = _conv(weights[mlp.hidden :].clone(), biases[mlp.hidden :].clone())
            self.fc2 = pointwise(mlp.w3)
        else:
            self.fc1, self.fc2 = pointwise(mlp.fc1), pointwise(mlp.fc2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        hidden = F.gelu(hidden) if self.gate is None else F.silu(self.gate(x)) * hidden
        return cast(Tensor, self.fc2(hidden))


class ChannelBlock(nn.Module):
    """A pre-norm block over (B, C, 1, N), LayerScale as it was left (folded, or a product per channel)."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        assert isinstance(block.attn, Attention) and isinstance(block.mlp, Mlp | SwiGlu)
        self.norm1, self.norm2 = ChannelNorm(block.norm1), ChannelNorm(block.norm2)
        self.attn, self.mlp = ChannelAttention(block.attn), ChannelMlp(block.mlp)
        for name in ("ls1", "ls2"):
            gamma = getattr(getattr(block, name), "gamma", None)  # None: folded into the linear before
            self.register_buffer(name, None if gamma is None else gamma.detach().reshape(1, -1, 1, 1).clone())

    def forward(self, x: Tensor) -> Tensor:
        for norm, branch, gain in ((self.norm1, self.attn, self.ls1), (self.norm2, self.mlp, self.ls2)):
            y = branch(norm(x))
            x = x + (y if gain is None else y * gain)
        return x


class ChannelDinoV2(nn.Module):
    """DinoV2 of one grid, its position embedding fixed. What it returns is DinoV2's: four maps (B, h*w, dim)."""

    position: Tensor
    cls_token: Tensor

    def __init__(self, encoder: DinoV2) -> None:
        super().__init__()
        fixed = encoder.fixed_position
        assert fixed is not None, "fix the position embedding first"
        self.taps = encoder.preset.taps
        self.proj = copy.deepcopy(encoder.patch_embed.proj)
        self.register_buffer("position", fixed.detach().transpose(1, 2)[:, :, None].contiguous())  # (1, C, 1, 1 + hw)
        self.register_buffer("cls_token", encoder.cls_token.detach().transpose(1, 2)[:, :, None].clone())
        self.blocks = nn.ModuleList(ChannelBlock(cast(Block, block)) for block in encoder.blocks)
        self.norm = ChannelNorm(encoder.norm)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        patches = self.proj(x)  # (B, C, h, w)
        b, dim, h, w = patches.shape
        tokens = torch.cat((self.cls_token.expand(b, -1, -1, -1), patches.reshape(b, dim, 1, h * w)), dim=3)
        tokens = tokens + self.position
        tapped: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in self.taps:
                tapped.append(self.norm(tokens)[:, :, 0, 1:].transpose(1, 2))  # (B, h*w, C)
        return tuple(tapped)


def channels_first(net: DepthAnything) -> int:
    """Put the encoder's tokens into (B, C, 1, N), in place; returns how many blocks, 0 of another family's encoder.

    The position embedding must be fixed (pass position).
    """
    encoder = net.pretrained
    if not isinstance(encoder, DinoV2):
        return 0
    net.add_module("pretrained", ChannelDinoV2(encoder).train(encoder.training).requires_grad_(False))
    return len(encoder.blocks)


def pointwise(linear: nn.Linear) -> nn.Conv2d:
    """The same function of the channels of (B, C, 1, N) as linear has of (B, N, C)."""
    return _conv(linear.weight.detach().clone(), linear.bias.detach().clone())


def _conv(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, device="meta")
    conv.weight, conv.bias = nn.Parameter(weight[:, :, None, None]), nn.Parameter(bias)
    return conv
