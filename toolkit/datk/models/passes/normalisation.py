"""Fold the input normalisation into the patch embedding: one exact scalar product is left in the graph.

conv(W, (x/255 - mean)/std) + b == conv(W', x/256) + b' with W' = W * 256/(255 std) and b' = b - sum(W mean/std).
Exact because the patch convolution has no padding. x/256 is a power of two, so 8-bit pixels stay exact in half
precision; the whole factor 1/(255 std) in the weights would push many of them below half's smallest normal number.
"""

from __future__ import annotations

import torch

from datk.depth.io_spec import IMAGENET_MEAN, IMAGENET_STD
from datk.models.depth_anything import DepthAnything
from datk.models.dinov2 import DinoV2

PIXEL_SCALE = 1.0 / 256
"""What is left to multiply 0..255 with."""


@torch.no_grad()
def fold_normalisation(net: DepthAnything) -> int:
    """In place; net then takes RGB * PIXEL_SCALE. Returns 1, or 0 for an encoder of another family, left as it was."""
    if not isinstance(net.pretrained, DinoV2):
        return 0
    conv = net.pretrained.patch_embed.proj
    assert conv.bias is not None and conv.padding == (0, 0)
    mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float64)
    std = torch.tensor(IMAGENET_STD, dtype=torch.float64)
    weight = conv.weight.double()  # (dim, 3, 14, 14)
    conv.bias.copy_(conv.bias.double() - (weight.sum((2, 3)) * (mean / std)).sum(1))
    conv.weight.copy_(weight * (1 / (255 * std * PIXEL_SCALE)).view(1, 3, 1, 1))
    return 1
