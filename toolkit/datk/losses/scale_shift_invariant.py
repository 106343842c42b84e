"""Scale-and-shift-invariant loss: mean absolute difference of maps normalised by median and mean deviation.

Source: Ranftl et al. 2020 (MiDaS), eq. 5-7, as used by Depth Anything V1 section 3.1. Median and deviation are
taken over valid pixels only (a published implementation lets masked pixels in as zeros; this one does not).
The least-squares form, which the sources hint at as well, stands in least_squares.py.
"""

from __future__ import annotations

from torch import Tensor


def median_and_deviation(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(median, mean |values - median|) of each image's valid pixels, both (B, 1); (0, 0) where there is none.

    values: (B, N) float. mask: (B, N) bool. The median of an even count is the lower middle value, as torch defines
    it. Gradients flow through both and never through masked values.
    """
    count = mask.sum(1, keepdim=True).clamp(min=1)  # (B, 1)
    empty = ~mask.any(1, keepdim=True)  # (B, 1)
    median = values.masked_fill(~mask, float("nan")).masked_fill(empty, 0.0).nanmedian(1, keepdim=True).values
    centred = (values - median).masked_fill(~mask, 0.0)  # (B, N)
    return median, centred.abs().sum(1, keepdim=True) / count


def normalise_scale_shift(values: Tensor, mask: Tensor, *, scale_floor: float = 1e-6) -> Tensor:
    """(values - median) / mean |values - median| per image, over valid pixels; 0 where masked.

    values: (B, H, W) disparity, 1/m up to scale. mask: (B, H, W) bool. scale_floor: lower bound of the divisor in
    the unit of values. An image without a valid pixel is 0 everywhere, and so is one with a single valid pixel.
    Gradients flow through both statistics and never through masked pixels.
    """
    flat, valid = values.flatten(1), mask.flatten(1)  # (B, H*W)
    median, scale = median_and_deviation(flat, valid)
    centred = (flat - median).masked_fill(~valid, 0.0)  # (B, H*W)
    return (centred / scale.clamp(min=scale_floor)).view_as(values)  # (B, H, W)


def mean_of_each(per_pixel: Tensor, mask: Tensor) -> Tensor:
    """(B,) mean over each image's valid pixels; 0 (with a graph) where there is none. per_pixel, mask: (B, H, W)."""
    count = mask.flatten(1).sum(1)  # (B,)
    return per_pixel.masked_fill(~mask, 0.0).flatten(1).sum(1) / count.clamp(min=1)


def mean_over_images(per_pixel: Tensor, mask: Tensor) -> Tensor:
    """Mean over each image's valid pixels, then over the images that have any; 0 (with a graph) when none has.

    per_pixel: (B, H, W), 0 where masked. mask: (B, H, W) bool. Returns a scalar.
    """
    return mean_of_each(per_pixel, mask).sum() / mask.flatten(1).any(1).sum().clamp(min=1)


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
