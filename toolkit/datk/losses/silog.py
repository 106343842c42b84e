"""Scale-invariant logarithmic loss of metric depth.

Source: Eigen et al. 2014 (arXiv 1406.2283) eq. 4, in the form of the metric fine-tuning code of Depth Anything V2: the
square root, half of the squared mean subtracted, no factor of ten, no epsilon inside the logarithm.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

SMALLEST_SQUARE = 1e-12
"""The square root's argument is kept above this, where its slope would be infinite: maps that are equal."""


def silog_loss(
    pred_m: Tensor,
    target_m: Tensor,
    mask: Tensor,
    *,
    mean_weight: float = 0.5,
    over: Literal["image", "batch"] = "image",
) -> Tensor:
    """sqrt(mean(g^2) - mean_weight * mean(g)^2), g = log target - log pred over valid pixels.

    pred_m, target_m: (B, H, W) depth in metres, > 0 where valid. mask: (B, H, W) bool. mean_weight: 0..1; 1 ignores a
    common factor altogether. over: image takes the means per image and averages the images that have a valid pixel, so
    that parts of a batch add up to the whole; batch takes them over all valid pixels of the call at once, as the
    official code does. Returns a scalar >= 0, 0 (with a graph) when no pixel is valid; never nan for valid input.
    """
    ratio = torch.where(mask, target_m, 1.0).log() - torch.where(mask, pred_m, 1.0).log()  # (B, H, W), 0 where masked
    groups = len(mask) if over == "image" else 1
    flat, valid = ratio.reshape(groups, -1), mask.reshape(groups, -1)
    count = valid.sum(1).clamp(min=1)  # (groups,)
    square = flat.square().sum(1) / count - mean_weight * (flat.sum(1) / count).square()
    roots = square.clamp(min=SMALLEST_SQUARE).sqrt() * valid.any(1)
    return torch.as_tensor(roots.sum() / valid.any(1).sum().clamp(min=1))
