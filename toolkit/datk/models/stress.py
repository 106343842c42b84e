"""A net made as hard to quantise as real DINOv2: massive residual channels and peaked attention.

Random or briefly trained weights forgive every quantiser. The published encoders do not: a few residual channels reach
several hundred while the rest stay near 1 (|x| up to 1418 is reported before a LayerNorm), and at 449 tokens 91 % of
the softmax weights lie below one 8-bit step and carry 17-33 % of the mass. scale_residual keeps the function bit for
bit; sharpen_attention makes another net, which is then its own float reference.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from datk.errors import UsageError
from datk.models.depth_anything import DepthAnything
from datk.models.dinov2 import Attention, Block, DinoV2, LayerScale

STEP = 1 / 255
"""One 8-bit step of a probability."""
TOP_SHARE = 0.09
"""The part of a row of softmax weights that lies above one step at 449 tokens."""
TOP_MASS = 0.75
"""Mass that part carries, the middle of the reported 67-83 %."""
LARGEST = 400.0
MASSIVE = 1000.0
"""Times the median of the stream: what is called massive here. That a few activations are larger than the others by
orders of magnitude, in vision transformers too: "Massive Activations in Large Language Models", arXiv 2402.17762."""


class StressedBlock(Block):
    """A block whose residual stream is kept in other units: channel c times scale[c], a power of two.

    x + f(norm(x)) becomes ((x s) + s f(norm((x s) / s))) / s. Powers of two change no digit, and s f() costs nothing
    (it stands in LayerScale), so what the block returns is unchanged bit for bit. Inside it the stream is massive.
    """

    scale: Tensor
    unscale: Tensor

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.scale
        x = x + self.ls1(self.attn(self.norm1(x * self.unscale)))
        x = x + self.ls2(self.mlp(self.norm2(x * self.unscale)))
        return x * self.unscale


@dataclass(frozen=True, kw_only=True)
class AttentionShape:
    """How peaked softmax weights are, averaged over blocks, heads and rows."""

    top_mass: float
    """Mass of the largest 9 % of each row."""
    below_step: float
    """Share of weights below one 8-bit step."""
    mass_below_step: float
    """Mass those carry."""


def stress_net(net: DepthAnything, images: Tensor, *, largest: float = LARGEST) -> DepthAnything:
    """A copy of net with peaked attention (sharpen_attention) and massive residual channels (scale_residual).

    images: (B, 3, H, W) normalised RGB, as net takes it; some photographs of the bucket to be quantised at.
    Works for every size with a DINOv2 encoder. Raises UsageError for another encoder.
    """
    return scale_residual(sharpen_attention(net, images), images, largest=largest)


def scale_residual(
    net: DepthAnything, images: Tensor, *, largest: float = LARGEST, channels: int | None = None
) -> DepthAnything:
    """A copy of net, equal in function, whose residual stream is massive in two middle blocks.

    channels: how many residual channels are scaled, the liveliest ones; None: one in 96, at least 2. Each gets the
    smallest power of two that takes its largest value on images beyond `largest`, and beyond MASSIVE times the median
    value of the stream, in both blocks. Raises UsageError.
    """
    if not largest > 0:
        raise UsageError(f"largest residual value must be positive, got {largest}")
    stressed = copy.deepcopy(net).eval()
    encoder = _encoder(stressed)
    middle = middle_blocks(len(encoder.blocks))
    streams = [stream for i, stream in enumerate(_residual_streams(stressed, images)) if i in middle]
    reach = torch.stack([stream.reach for stream in streams]).amin(0)  # (dim,)
    largest = max(largest, MASSIVE * max(stream.median for stream in streams))
    count = channels or max(2, reach.numel() // 96)
    chosen = reach.topk(min(count, reach.numel())).indices
    scale = torch.ones_like(reach)
    for channel in chosen.tolist():
        if reach[channel] > 0:
            scale[channel] = 2.0 ** max(0, math.floor(math.log2(largest / float(reach[channel]))) + 1)
    for index in middle:
        block = cast(Block, encoder.blocks[index])
        units = scale * block.scale if isinstance(block, StressedBlock) else scale.clone()
        block.__class__ = StressedBlock
        block.register_buffer("scale", units)
        block.register_buffer("unscale", 1 / units)
        for gain in (cast(LayerScale, block.ls1), cast(LayerScale, block.ls2)):
            gain.gamma = nn.Parameter(gain.gamma.detach() * scale, requires_grad=gain.gamma.requires_grad)
    return stressed


@torch.no_grad()
def sharpen_attention(net: DepthAnything, images: Tensor, *, top_mass: float = TOP_MASS) -> DepthAnything:
    """A copy of net whose queries are scaled, block by block, until the largest 9 % of a row carry `top_mass`.

    Another function than net's, with the same architecture; a block that is as peaked already stays as it is.
    images as in stress_net. Raises UsageError for another encoder than DINOv2.
    """
    sharp = copy.deepcopy(net).eval()
    for block in _encoder(sharp).blocks:
        attention = cast(Attention, cast(Block, block).attn)
        q, k = _queries_keys(sharp, attention, images)
        logits = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5  # (B, heads, N, N)
        factor = _factor_for(logits, top_mass)
        dim = attention.qkv.in_features
        attention.qkv.weight[:dim] *= factor
        attention.qkv.bias[:dim] *= factor
    return sharp


@torch.no_grad()
def largest_residual(net: DepthAnything, images: Tensor) -> list[float]:
    """Largest |x| of the residual stream inside each block, on images (B, 3, H, W) normalised."""
    return [float(stream.reach.max()) for stream in _residual_streams(net, images)]


@torch.no_grad()
def attention_shape(net: DepthAnything, images: Tensor) -> AttentionShape:
    """Measure it on images (B, 3, H, W) normalised."""
    shapes = []
    for block in _encoder(net).blocks:
        q, k = _queries_keys(net, cast(Attention, cast(Block, block).attn), images)
        weights = torch.softmax(q @ k.transpose(2, 3) * q.shape[-1] ** -0.5, dim=-1)
        low = weights < STEP
        mass = float((weights * low).sum(-1).mean())
        shapes.append((_top_mass(weights), float(low.float().mean()), mass))
    top, below, carried = (sum(column) / len(column) for column in zip(*shapes, strict=True))
    return AttentionShape(top_mass=top, below_step=below, mass_below_step=carried)


def middle_blocks(depth: int) -> tuple[int, int]:
    """0-based indices of the two blocks in the middle."""
    if depth < 2:
        raise UsageError(f"the stress net needs an encoder of at least two blocks, got {depth}")
    return depth // 2 - 1, depth // 2


def _encoder(net: DepthAnything) -> DinoV2:
    if not isinstance(net.pretrained, DinoV2):
        raise UsageError("the stress net is made from a DINOv2 encoder", hint="any of tiny, small, base, large, giant")
    return net.pretrained


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stream:
    """The residual stream inside one block, in the units it is kept in."""

    reach: Tensor
    """(dim,): largest |x| of each channel."""
    median: float
    """Median |x| over everything."""


@torch.no_grad()
def _residual_streams(net: DepthAnything, images: Tensor) -> list[_Stream]:
    """One of each block: as it enters, between attention and feed-forward, as it leaves."""
    blocks = [cast(Block, b) for b in _encoder(net).blocks]
    seen: list[list[Tensor]] = [[] for _ in blocks]
    hooks: list[RemovableHandle] = []
    for block, found in zip(blocks, seen, strict=True):

        def before(_: nn.Module, inputs: tuple[Tensor, ...], found: list[Tensor] = found) -> None:
            found.append(inputs[0].abs().flatten(0, 1))  # (B N, dim)

        def after(_: nn.Module, __: tuple[Tensor, ...], output: Tensor, found: list[Tensor] = found) -> None:
            found.append(output.abs().flatten(0, 1))

        hooks += [module.register_forward_pre_hook(before) for module in (block.norm1, block.norm2)]
        hooks.append(block.register_forward_hook(after))
    try:
        net(images)
    finally:
        for hook in hooks:
            hook.remove()
    streams = []
    for block, found in zip(blocks, seen, strict=True):
        unit: Tensor | float = block.scale if isinstance(block, StressedBlock) else 1.0
        values = torch.cat(found) * unit  # (3 B N, dim)
        streams.append(_Stream(reach=values.amax(0), median=float(values.median())))
    return streams


@torch.no_grad()
def _queries_keys(net: DepthAnything, attention: Attention, images: Tensor) -> tuple[Tensor, Tensor]:
    """q and k of one attention on images, each (B, heads, N, head_dim)."""
    found: list[tuple[Tensor, Tensor]] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        q, k, _v = attention.split_heads(inputs[0])
        found.append((q, k))

    hook = attention.register_forward_pre_hook(keep)
    try:
        net(images)
    finally:
        hook.remove()
    return found[0]


def _top_mass(weights: Tensor) -> float:
    """Mean mass of the largest 9 % of each row, weights (..., N)."""
    count = max(1, round(TOP_SHARE * weights.shape[-1]))
    return float(weights.topk(count, dim=-1).values.sum(-1).mean())


def _factor_for(logits: Tensor, top_mass: float) -> float:
    """Smallest factor >= 1 on logits that reaches top_mass, within 2 %; the mass grows with the factor."""
    low, high = 1.0, 1.0
    while _top_mass(torch.softmax(logits * high, dim=-1)) < top_mass:
        low, high = high, high * 2
        if high > 2.0**20:  # logits without any difference: nothing to sharpen
            return 1.0
    while high / low > 1.02:
        middle = math.sqrt(low * high)
        if _top_mass(torch.softmax(logits * middle, dim=-1)) < top_mass:
            low = middle
        else:
            high = middle
    return high
