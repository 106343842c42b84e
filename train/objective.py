"""The losses put together, for teacher and student alike, and the last bias set right after raw training."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from datk.config.loss_section import LossSection
from datk.losses.gradient_matching import gradient_matching_of_each
from datk.losses.hierarchical import hierarchical_map
from datk.losses.least_squares import align_least_squares
from datk.losses.scale_shift_invariant import mean_of_each, normalise_scale_shift
from datk.losses.top_loss import drop_top_loss
from datk.train.loop import StepLoss
from datk.train.schedule import ramp

CLIPPED_FRACTION = 1e-3
"""Share of the raw values that the final ReLU may cut after the lift."""


class TrainableNet(Protocol):
    """What training asks of a depth net; DepthAnything is one."""

    def forward_train(self, x: Tensor) -> tuple[Tensor, Tensor]: ...

    def activate(self, raw: Tensor) -> Tensor: ...


def depth_loss(
    raw: Tensor,
    output: Tensor,
    target: Tensor,
    valid: Tensor,
    section: LossSection,
    done: float,
    *,
    pasted: Tensor | None = None,
    labelled: Tensor | None = None,
    weights: Tensor | None = None,
) -> StepLoss:
    """Weighted sum of the dense losses, in float32.

    raw, output: (B, H, W) before and after the last activation. target: (B, H, W) disparity 0..1. valid: (B, H, W)
    bool. done: fraction of the steps taken. pasted: (B, H, W) bool, the part of a CutMix picture that comes from
    another one: both parts are judged by themselves and weighted with their share of the picture (Depth Anything V1
    section 3.2, eq. 6-8). labelled: (B,) bool, images whose target is exact: top_loss_fraction spares them.
    weights: (B,) of the images, of mean 1 over the whole stream; None: all alike.

    With top_loss_fraction, the pixels with the largest scale-and-shift-invariant loss are left out of every term
    ("regions ignored", section 5.2 of the paper).
    """
    judged = (raw if section.output == "raw" else output).float()
    target = target.float()
    if pasted is None:
        parts = _parts(judged, target, valid, section, labelled)
    else:
        share = pasted.flatten(1).float().mean(1)  # (B,)
        own = _parts(judged, target, valid & ~pasted, section, labelled)
        other = _parts(judged, target, valid & pasted, section, labelled)
        parts = {name: (1 - share) * own[name] + share * other[name] for name in own}
    images = valid.flatten(1).any(1).sum().clamp(min=1)
    means = {name: (value if weights is None else weights * value).sum() / images for name, value in parts.items()}
    total = section.ssi_weight * means["ssi"]
    total = total + section.gradient_weight * ramp(done, section.gradient_ramp) * means["gradient"]
    if "anchor" in means:
        total = total + section.anchor_weight * means["anchor"]
    return StepLoss(total=total, parts=means, output=judged)


def _parts(
    judged: Tensor, target: Tensor, valid: Tensor, section: LossSection, labelled: Tensor | None
) -> dict[str, Tensor]:
    """Each dense loss of each image, (B,); 0 for an image without a valid pixel."""
    loss_map, pred_n, target_n = compared(judged, target, valid, section)
    kept = drop_top_loss(loss_map, valid, fraction=section.top_loss_fraction)
    if labelled is not None:
        kept = torch.where(labelled[:, None, None], valid, kept)
    parts = {
        "ssi": ssi_of_each(loss_map, kept, section),
        "gradient": gradient_matching_of_each(pred_n, target_n, kept, scales=section.gradient_scales),
    }
    if section.anchor_weight > 0:
        anchored = section.anchor_offset + (1 - section.anchor_offset) * target
        parts["anchor"] = mean_of_each((judged - anchored).abs(), kept)
    return parts


def ssi_of_each(loss_map: Tensor, kept: Tensor, section: LossSection) -> Tensor:
    """(B,) mean of the map over the pixels kept; with `trim`, the sum of its smallest part over all of them."""
    if section.trim == 0:
        return mean_of_each(loss_map, kept)
    smallest = drop_top_loss(loss_map, kept, fraction=section.trim)
    return mean_of_each(loss_map.masked_fill(~smallest, 0.0), kept)


def compared(judged: Tensor, target: Tensor, valid: Tensor, section: LossSection) -> tuple[Tensor, Tensor, Tensor]:
    """(difference map >= 0, prediction, target), the last two made comparable for the gradient loss; all (B, H, W).

    hierarchical has no single normalised map, so the gradient loss sees the median form there, as in
    Distill-Any-Depth.
    """
    floor = section.scale_floor
    if section.alignment == "least_squares":
        aligned = align_least_squares(judged, target, valid, scale_floor=floor)
        return (aligned - target).masked_fill(~valid, 0.0).square() / 2, aligned, target
    if section.alignment == "none":
        return (judged - target).masked_fill(~valid, 0.0).abs(), judged, target
    pred_n = normalise_scale_shift(judged, valid, scale_floor=floor)
    target_n = normalise_scale_shift(target, valid, scale_floor=floor)
    if section.alignment == "median":
        return (pred_n - target_n).abs(), pred_n, target_n
    loss_map = hierarchical_map(
        judged,
        target,
        valid,
        parts=section.hierarchy_parts,
        contexts=section.hierarchy_contexts,
        scale_floor=floor,
    )
    return loss_map, pred_n, target_n


@torch.no_grad()
def lift_above_relu(net: nn.Module, images: list[Tensor]) -> float:
    """Raise the last bias until at most one raw value in a thousand lies below 0; returns the lift.

    The losses do not see a shift, so raw training may leave the map anywhere; the deployed net has a ReLU. images:
    normalised (B, 3, H, W) batches. 0 when nothing needs lifting.
    """
    net.eval()
    raws = torch.cat([cast(TrainableNet, net).forward_train(image)[0].float().flatten() for image in images])
    rank = max(1, round(CLIPPED_FRACTION * raws.numel()))
    low = float(raws.kthvalue(rank).values)
    if low >= 0:
        return 0.0
    last = cast(nn.Conv2d, net.get_submodule("depth_head.scratch.output_conv2.2"))
    assert last.bias is not None
    last.bias.add_(-low)
    return -low
