"""Fold LayerScale into the linear layer before it: gamma * (W x + b) == (diag(gamma) W) x + gamma * b.

One elementwise product less per residual branch, and one tensor less for a quantiser to range.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from datk.models.depth_anything import DepthAnything
from datk.models.dinov2 import Attention, Block, DinoV2, LayerScale, Mlp, SwiGlu


def fold_layer_scale(net: DepthAnything) -> int:
    """Fold both LayerScales of every DINOv2 block, in place; returns how many went."""
    encoder = net.pretrained
    if not isinstance(encoder, DinoV2):
        return 0
    folded = 0
    for module in encoder.blocks:
        block = cast(Block, module)
        mlp = cast(Mlp | SwiGlu, block.mlp)
        last = mlp.w3 if isinstance(mlp, SwiGlu) else mlp.fc2
        for name, linear in (("ls1", cast(Attention, block.attn).proj), ("ls2", last)):
            gain = getattr(block, name)
            if isinstance(gain, LayerScale):
                _fold(gain, linear)
                setattr(block, name, nn.Identity())
                folded += 1
    return folded


@torch.no_grad()
def _fold(gain: LayerScale, linear: nn.Linear) -> None:
    linear.weight.mul_(gain.gamma[:, None])
    linear.bias.mul_(gain.gamma)
