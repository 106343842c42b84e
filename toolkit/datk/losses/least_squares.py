"""The least-squares form of scale-and-shift invariance: lay the prediction onto the target, then compare.

Source: Ranftl et al. 2020 (MiDaS), section 5: alignment in closed form, then half the mean squared difference. Depth
Anything V1 section 3.1 writes the median form instead (scale_shift_invariant.py) while its first author names MiDaS'
code, which is this one (Depth-Anything-V2 issue 137); the two sources contradict each other, so both are here.
"""

from __future__ import annotations

from torch import Tensor

from datk.losses.scale_shift_invariant import mean_over_images


def align_least_squares(pred: Tensor, target: Tensor, mask: Tensor, *, scale_floor: float = 1e-6) -> Tensor:
    """scale * pred + shift of each image, the two that minimise the squared difference from target; 0 where masked.

    pred, target: (B, H, W) disparity. mask: (B, H, W) bool. scale_floor: standard deviation of pred, in its unit,
    below which it counts as this large: a constant map becomes the target's mean. The scale may come out negative, so
    a map the wrong way round is aligned as well as a right one: only other terms can tell the sign. Gradients flow
    through scale and shift and never through masked pixels. Returns (B, H, W).
    """
    valid = mask.flatten(1)  # (B, H*W)
    count = valid.sum(1, keepdim=True).clamp(min=1)  # (B, 1)
    p, t = (values.flatten(1).masked_fill(~valid, 0.0) for values in (pred, target))  # (B, H*W)
    p_mean, t_mean = p.sum(1, keepdim=True) / count, t.sum(1, keepdim=True) / count  # (B, 1)
    p, t = (p - p_mean).masked_fill(~valid, 0.0), (t - t_mean).masked_fill(~valid, 0.0)
    variance = p.square().sum(1, keepdim=True) / count  # (B, 1)
    scale = (p * t).sum(1, keepdim=True) / count / variance.clamp(min=scale_floor**2)
    return (scale * p + t_mean).masked_fill(~valid, 0.0).view_as(pred)  # (B, H, W)


def least_squares_loss(pred: Tensor, target: Tensor, mask: Tensor, *, scale_floor: float = 1e-6) -> Tensor:
    """Half the mean squared difference of the aligned pred from target, averaged over images with a valid pixel.

    pred, target: (B, H, W). mask: (B, H, W) bool. Returns a scalar >= 0 that does not change when pred of an image is
    multiplied by any number but 0 or shifted, and grows with the square of the target's scale.
    """
    aligned = align_least_squares(pred, target, mask, scale_floor=scale_floor)
    return mean_over_images((aligned - target).masked_fill(~mask, 0.0).square() / 2, mask)
