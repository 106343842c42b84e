"""Hierarchical (hybrid) normalisation: compare the maps within several contexts, from the whole image to parts of it.

Source: Zhang et al. 2022 (arXiv 2210.09670, section 3): a pixel belongs to several contexts u, the loss is its mean
over them of |N_u(pred) - N_u(target)| with N_u the median and mean deviation normalisation over u's valid pixels.
Contexts by equal parts of the target's range, of its ranking, or of the picture. Distill-Any-Depth (arXiv 2502.19204)
calls it hybrid normalisation and takes 1, 2 and 4 parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from datk.losses.scale_shift_invariant import mean_over_images, median_and_deviation, normalise_scale_shift

Contexts = Literal["range", "rank", "space"]


def hierarchical_map(
    pred: Tensor,
    target: Tensor,
    mask: Tensor,
    *,
    parts: tuple[int, ...] = (1, 2, 4),
    contexts: Contexts = "range",
    scale_floor: float = 1e-6,
) -> Tensor:
    """(B, H, W) mean over a pixel's contexts of |normalised pred - normalised target|; 0 where masked.

    pred, target: (B, H, W) disparity up to scale and shift. mask: (B, H, W) bool. parts: number of contexts of each
    level (space: a level has parts x parts tiles). A context whose target deviates by no more than scale_floor (flat
    sky, a single pixel) says nothing about shape and is left out, for its pixels too. parts=(1,) is the plain
    normalisation on images whose target is not flat.
    """
    total, seen = torch.zeros_like(pred), torch.zeros_like(pred)
    for inside in _contexts(target, mask, parts, contexts):
        _, deviation = median_and_deviation(target.flatten(1), inside.flatten(1))
        inside = inside & (deviation > scale_floor)[:, :, None]  # (B, H, W)
        a = normalise_scale_shift(pred, inside, scale_floor=scale_floor)
        b = normalise_scale_shift(target, inside, scale_floor=scale_floor)
        total = total + (a - b).abs()
        seen = seen + inside
    return total / seen.clamp(min=1)


def hierarchical_loss(
    pred: Tensor,
    target: Tensor,
    mask: Tensor,
    *,
    parts: tuple[int, ...] = (1, 2, 4),
    contexts: Contexts = "range",
    scale_floor: float = 1e-6,
) -> Tensor:
    """Mean of hierarchical_map over valid pixels, averaged over images with any. Returns a scalar >= 0.

    Does not change when pred of an image is multiplied by a positive number or shifted.
    """
    values = hierarchical_map(pred, target, mask, parts=parts, contexts=contexts, scale_floor=scale_floor)
    return mean_over_images(values, mask)


def _contexts(target: Tensor, mask: Tensor, parts: tuple[int, ...], contexts: Contexts) -> Iterator[Tensor]:
    """(B, H, W) bool masks; at each level every valid pixel is in exactly one of them."""
    for count in parts:
        place = _place(target.detach(), mask, count, contexts)  # (B, H, W) long
        for index in range(count**2 if contexts == "space" else count):
            yield mask & (place == index)


def _place(target: Tensor, mask: Tensor, count: int, contexts: Contexts) -> Tensor:
    """(B, H, W) long: which of a level's contexts a pixel belongs to; anything where masked."""
    b, h, w = target.shape
    if contexts == "space":
        rows = torch.arange(h, device=target.device) * count // h  # (H,)
        columns = torch.arange(w, device=target.device) * count // w  # (W,)
        return (rows[:, None] * count + columns).expand(b, h, w)
    flat, valid = target.flatten(1), mask.flatten(1)  # (B, H*W)
    if contexts == "rank":
        order = flat.masked_fill(~valid, float("inf")).argsort(dim=1, stable=True)
        ranks = torch.empty_like(order).scatter_(1, order, torch.arange(h * w, device=target.device).expand(b, -1))
        number = valid.sum(1, keepdim=True).clamp(min=1)
        return (ranks * count // number).clamp(max=count - 1).view(b, h, w)
    low = flat.masked_fill(~valid, float("inf")).amin(1, keepdim=True)
    high = flat.masked_fill(~valid, float("-inf")).amax(1, keepdim=True)
    unit = ((flat - low) / (high - low)).masked_fill(~valid, 0.0).nan_to_num(0.0)  # one value only: 0 / 0
    return (unit * count).long().clamp(0, count - 1).view(b, h, w)
