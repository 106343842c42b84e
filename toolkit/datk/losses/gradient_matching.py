"""Multi-scale gradient matching: the difference map should be flat, so that edges lie where the target's lie.

Source: Li and Snavely 2018 (MegaDepth), eq. 4, as used by MiDaS and Depth Anything V2 (section 5.2, B.7): plain
striding, both-neighbour masks, each scale divided by its own valid count, scales summed.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gradient_matching_of_each(pred: Tensor, target: Tensor, mask: Tensor, *, scales: int = 4) -> Tensor:
    """(B,) sum over strides 1, 2, 4, 8 ... of the mean |horizontal| + |vertical| difference of (pred - target).

    pred, target: (B, H, W), already normalised alike (see normalise_scale_shift). mask: (B, H, W) bool. A
    difference counts when both of its pixels are valid; the divisor of a scale is the image's count of valid
    pixels at that scale; a scale with no pixels adds 0.
    """
    total = pred.new_zeros(len(pred))
    for scale in range(scales):
        step = 2**scale
        valid = mask[:, ::step, ::step]  # (B, h, w)
        difference = (pred[:, ::step, ::step] - target[:, ::step, ::step]).masked_fill(~valid, 0.0)  # (B, h, w)
        horizontal = (difference[:, :, 1:] - difference[:, :, :-1]).abs() * (valid[:, :, 1:] & valid[:, :, :-1])
        vertical = (difference[:, 1:, :] - difference[:, :-1, :]).abs() * (valid[:, 1:, :] & valid[:, :-1, :])
        count = valid.sum((1, 2)).clamp(min=1)  # (B,)
        total = total + (horizontal.sum((1, 2)) + vertical.sum((1, 2))) / count
    return total


def gradient_matching_loss(pred: Tensor, target: Tensor, mask: Tensor, *, scales: int = 4) -> Tensor:
    """gradient_matching_of_each, averaged over the images with a valid pixel. Returns a scalar."""
    images = mask.flatten(1).any(1).sum().clamp(min=1)
    return torch.as_tensor(gradient_matching_of_each(pred, target, mask, scales=scales).sum() / images)
