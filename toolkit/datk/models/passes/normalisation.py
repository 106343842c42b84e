"""Fold the input normalisation into the patch embedding: pixels / 256 - 1/2 is left, exact in any precision.

conv(W, (x/255 - mean)/std) + b == conv(W', u) + b' with u = x/256 - 1/2, W' = W * 256/(255 std) and
b' = b + sum(W (128/255 - mean)/std). Exact because the patch convolution has no padding. u is exact in half precision.
Folding all of it would be one operation less, but puts 1/(255 std) into the weights: many of them then lie below half's
smallest normal number, which some GPUs take for 0. The difference keeps a converter from doing that by itself.
"""

from __future__ import annotations

import torch

from datk.depth.io_spec import IMAGENET_MEAN, IMAGENET_STD
from datk.models.depth_anything import DepthAnything
from datk.models.dinov2 import DinoV2

PIXEL_SCALE = 1.0 / 256
PIXEL_SHIFT = 0.5
"""What is left to do with 0..255: times PIXEL_SCALE, minus PIXEL_SHIFT."""


@torch.no_grad()
def fold_normalisation(net: DepthAnything) -> int:
    """In place; net then takes RGB * PIXEL_SCALE - PIXEL_SHIFT. Returns 1; 0 for an encoder of another family."""
    if not isinstance(net.pretrained, DinoV2):
        return 0
    conv = net.pretrained.patch_embed.proj
    assert conv.bias is not None and conv.padding == (0, 0)
    mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float64)
    std = torch.tensor(IMAGENET_STD, dtype=torch.float64)
    weight = conv.weight.double()  # (dim, 3, 14, 14)
    full = 1 / PIXEL_SCALE / 255
    conv.bias.copy_(conv.bias.double() + (weight.sum((2, 3)) * ((full * PIXEL_SHIFT - mean) / std)).sum(1))
    conv.weight.copy_(weight * (full / std).view(1, 3, 1, 1))
    return 1
