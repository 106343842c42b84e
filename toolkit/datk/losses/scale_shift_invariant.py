"""Scale-and-shift-invariant loss: mean absolute difference of maps normalised by median and mean deviation.

Source: Ranftl et al. 2020 (MiDaS), eq. 5-7, as used by Depth Anything V1 section 3.1. Median and deviation are
taken over valid pixels only (a published implementation lets masked pixels in as zeros; this one does not).
"""

from __future__ import annotations

from torch import Tensor


def normalise_scale_shift(values: Tensor, mask: Tensor, *, scale_floor: float = 1e-6) -> Tensor:
    """(values - median) / mean |values - median| per image, over valid pixels; 0 where masked.

    values: (B, H, W) disparity, 1/m up to scale. mask: (B, H, W) bool. scale_floor: lower bound of the divisor in
    the unit of values. The median of an even count is the lower middle value, as torch defines it. An image
    without a valid pixel is 0 everywhere, and so is one with a single valid pixel. Gradients flow through both
    statistics and never through masked pixels.
    """
    flat = values.flatten(1)  # (B, H*W)
    valid = mask.flatten(1)  # (B, H*W)
    count = valid.sum(1, keepdim=True).clamp(min=1)  # (B, 1)
    empty = ~valid.any(1, keepdim=True)  # (B, 1)
    median = flat.masked_fill(~valid, float("nan")).masked_fill(empty, 0.0).nanmedian(1, keepdim=True).values  # (B, 1)
    centred = (flat - median).masked_fill(~valid, 0.0)  # (B, H*W)
    scale = centred.abs().sum(1, keepdim=True) / count  # (B, 1)
    return (centred / scale.clamp(min=scale_floor)).view_as(values)  # (B, H, W)


def mean_over_images(per_pixel: Tensor, mask: Tensor) -> Tensor:
    """Mean over each image's valid pixels, then over the images that have any; 0 (with a graph) when none has.

    per_pixel: (B, H, W), 0 where masked. mask: (B, H, W) bool. Returns a scalar.
    """
    count = mask.flatten(1).sum(1)  # (B,)
    per_image = per_pixel.masked_fill(~mask, 0.0).flatten(1).sum(1) / count.clamp(min=1)  # (B,)
    return per_image.sum() / (count > 0).sum().clamp(min=1)


def scale_shift_invariant_loss(pred: Tensor, target: Tensor, mask: Tensor, *, scale_floor: float = 1e-6) -> Tensor:
    """Mean |normalised pred - normalised target| over valid pixels, averaged over images.

    pred, target: (B, H, W) disparity up to scale and shift. mask: (B, H, W) bool, True = valid. Returns a scalar
    >= 0 that does not change when pred of an image is multiplied by a positive number or shifted (as long as
    its deviation stays above scale_floor). Images without valid pixels do not count.
    """
    difference = normalise_scale_shift(pred, mask, scale_floor=scale_floor) - normalise_scale_shift(
        target, mask, scale_floor=scale_floor
    )
    return mean_over_images(difference.abs(), mask)
