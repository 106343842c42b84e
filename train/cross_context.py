"""Cross-context distillation: the frozen teacher looks closer at a part, the student answers from part and whole.

Source: Distill-Any-Depth (arXiv 2502.19204), section on cross-context distillation: with D the teacher's map of a
random part, L_sc compares the student's map of that part with D (shared context), L_lg the matching region of the
student's map of the whole picture with D (local-global); total L_sc + 0.5 L_lg + feature alignment + 2 gradient. Which
maps the gradient term sees is not said there; here those of the shared context.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from datk.config.beyond_sections import CrossContextSection
from datk.config.loss_section import LossSection
from datk.depth.io_spec import Size
from datk.depth.teacher import NEAREST_M
from datk.errors import UsageError
from datk.models.depth_anything import DepthAnything
from datk.train.loop import StepLoss
from datk.train.objective import TrainableNet, depth_loss


class OnlineTeacher:
    """A frozen net that labels while the student learns, held outside the student so that it never enters its file."""

    def __init__(self, net: DepthAnything) -> None:
        self.net = net.eval().requires_grad_(False)

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, h, w) normalised -> (B, h, w) float32 disparity, min-max 0..1 per map; a flat map is 0."""
        self.net.to(images.device)
        with torch.no_grad():
            output = cast(Tensor, self.net(images)).float()
        disparity = output if self.net.max_depth_m is None else 1 / output.clamp(min=NEAREST_M)
        low, high = disparity.flatten(1).amin(1), disparity.flatten(1).amax(1)  # (B,)
        span = (high - low).clamp(min=torch.finfo(torch.float32).tiny)
        return (disparity - low[:, None, None]) / span[:, None, None]


@dataclass(frozen=True)
class CrossContext:
    """What a student's step adds to the loss on stored pseudo-labels."""

    section: CrossContextSection
    loss: LossSection
    teacher: OnlineTeacher

    def add(self, net: TrainableNet, stored: StepLoss, local: Tensor, place: Tensor, done: float) -> StepLoss:
        """The weighted sum with the stored label's loss. local: (B, 3, h', w') closer looks. place: (B, 4), see Batch.

        stored.output, (B, H, W), is the student's map of the whole as losses see it.
        """
        label = self.teacher(local)  # (B, h', w')
        everywhere = torch.ones_like(label, dtype=torch.bool)
        total = self.section.stored_weight * stored.total
        parts = dict(stored.parts)
        if self.section.shared_weight > 0:
            raw, _ = net.forward_train(local)
            shared = depth_loss(raw, net.activate(raw), label, everywhere, self.loss, done)
            total = total + self.section.shared_weight * shared.total
            parts |= {f"shared_{name}": value for name, value in shared.parts.items()}
        if self.section.local_global_weight > 0:
            region = region_of(stored.output, place, (label.shape[1], label.shape[2]))
            compared = depth_loss(region, region, label, everywhere, _shape_only(self.loss), done)
            total = total + self.section.local_global_weight * compared.parts["ssi"]
            parts["local_global"] = compared.parts["ssi"]
        return StepLoss(total=total, parts=parts, output=stored.output)


def _shape_only(loss: LossSection) -> LossSection:
    """For two maps whose scales differ by construction: a part spans another range of depths than the whole."""
    alignment = "median" if loss.alignment == "none" else loss.alignment
    return loss.model_copy(update={"alignment": alignment, "anchor_weight": 0.0, "output": "raw"})


def region_of(maps: Tensor, place: Tensor, size: Size) -> Tensor:
    """The rectangle `place`, (B, 4) top, left, bottom, right in 0..1, of (B, H, W) maps, resampled to (B, *size).

    Bilinear, pixel centres at (i + 0.5) / n; differentiable in maps.
    """
    h, w = size
    down = (torch.arange(h, device=maps.device, dtype=maps.dtype) + 0.5) / h  # (h,)
    right = (torch.arange(w, device=maps.device, dtype=maps.dtype) + 0.5) / w  # (w,)
    top, left, bottom, end = place.to(maps.dtype).unbind(1)  # (B,)
    y = top[:, None] + down * (bottom - top)[:, None]  # (B, h)
    x = left[:, None] + right * (end - left)[:, None]  # (B, w)
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1) * 2 - 1  # (B, h, w, 2)
    cut = F.grid_sample(maps[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return cut[:, 0]


def cross_context(
    section: CrossContextSection | None, loss: LossSection, teacher: DepthAnything | None
) -> CrossContext | None:
    """None where the recipe asks for none. Raises UsageError without a teacher to ask."""
    if section is None:
        return None
    if teacher is None:
        raise UsageError("student.cross_context: the teacher labels while training, but none is given")
    return CrossContext(section, loss, OnlineTeacher(teacher))
