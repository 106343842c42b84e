"""The losses put together, for teacher and student alike, and the last bias set right after raw training."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from datk.config.train_sections import LossSection
from datk.losses.gradient_matching import gradient_matching_loss
from datk.losses.scale_shift_invariant import mean_over_images, normalise_scale_shift
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
    raw: Tensor, output: Tensor, target: Tensor, valid: Tensor, section: LossSection, done: float
) -> StepLoss:
    """Weighted sum of the dense losses, in float32.

    raw, output: (B, H, W) before and after the last activation. target: (B, H, W) disparity 0..1. valid: (B, H, W)
    bool. done: fraction of the steps taken. With top_loss_fraction, the pixels with the largest
    scale-and-shift-invariant loss are left out of every term ("regions ignored", section 5.2 of the paper).
    """
    judged = (raw if section.output == "raw" else output).float()
    target = target.float()
    pred_n = normalise_scale_shift(judged, valid, scale_floor=section.scale_floor)
    target_n = normalise_scale_shift(target, valid, scale_floor=section.scale_floor)
    loss_map = (pred_n - target_n).abs()
    kept = drop_top_loss(loss_map, valid, fraction=section.top_loss_fraction)
    ssi = mean_over_images(loss_map, kept)
    gradient = gradient_matching_loss(pred_n, target_n, kept, scales=section.gradient_scales)
    gradient_weight = section.gradient_weight * ramp(done, section.gradient_ramp)
    total = section.ssi_weight * ssi + gradient_weight * gradient
    parts = {"ssi": ssi, "gradient": gradient}
    if section.anchor_weight > 0:
        anchored = section.anchor_offset + (1 - section.anchor_offset) * target
        parts["anchor"] = mean_over_images((judged - anchored).abs(), kept)
        total = total + section.anchor_weight * parts["anchor"]
    return StepLoss(total=total, parts=parts, output=judged)


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
