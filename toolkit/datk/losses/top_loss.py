"""Top-loss masking: the pixels of an image the student disagrees with most are taken for label noise.

Source: Depth Anything V2 section 5.2 ("top-n-largest-loss regions", n = 10 %) and its issues 108 and 153:
regions are single pixels, the threshold is a percentile of the image's own loss map.
"""

from __future__ import annotations

import torch
from torch import Tensor


def drop_top_loss(loss_map: Tensor, mask: Tensor, *, fraction: float = 0.1) -> Tensor:
    """The mask without the `fraction` of each image's valid pixels that have the largest loss.

    loss_map: (B, H, W), >= 0. mask: (B, H, W) bool. Returns (B, H, W) bool: exactly ceil((1 - fraction) * n) of an
    image's n valid pixels stay, the smallest; among equal losses the one that comes first in the image.
    """
    if fraction <= 0:
        return mask
    flat, valid = loss_map.detach().flatten(1), mask.flatten(1)  # (B, H*W)
    order = flat.masked_fill(~valid, float("inf")).argsort(dim=1, stable=True)  # (B, H*W)
    count = valid.sum(1, keepdim=True)  # (B, 1)
    # rounded first, so that 0.9 * 10 is 9 and not the 10 that binary fractions would give
    stay = torch.ceil(((1 - fraction) * count.double()).round(decimals=6)).long()  # (B, 1)
    rank_kept = torch.arange(flat.shape[1], device=flat.device) < stay  # (B, H*W)
    kept = torch.zeros_like(valid).scatter(1, order, rank_kept)  # (B, H*W)
    return (kept & valid).view_as(mask)
