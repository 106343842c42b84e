"""Depth Anything V2: DINOv2 encoder and DPT head, relative or metric.

Source: Yang et al. 2024 (arXiv 2406.09414); the same function and state-dict keys as the official code.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from datk.depth.io_spec import DepthKind
from datk.errors import UsageError
from datk.models.dinov2 import DinoV2
from datk.models.dpt import DptHead
from datk.models.presets import PATCH, Preset
from datk.models.presets import preset as preset_named

START_DISPARITY = 0.5
"""Bias of the last convolution of an untrained relative net: its ReLU starts alive everywhere."""


class DepthAnything(nn.Module):
    """Image to depth. forward() is what is deployed, forward_train() what losses are put on.

    preset: a Preset or its name. depth_kind says what the output is: disparity_affine_invariant
    (ReLU; larger is nearer) or depth_metric_m (sigmoid times max_depth_m; larger is farther).
    Raises UsageError when max_depth_m and depth_kind do not belong together.

    The weights nothing reads (mask_token, the coarsest level's lateral unit) are kept for the official
    files' sake and have requires_grad False.
    """

    def __init__(
        self,
        preset: Preset | str,
        *,
        depth_kind: DepthKind = DepthKind.DISPARITY_AFFINE_INVARIANT,
        max_depth_m: float | None = None,
    ) -> None:
        super().__init__()
        check_kind(depth_kind, max_depth_m)
        self.preset = preset_named(preset) if isinstance(preset, str) else preset
        self.depth_kind = DepthKind(depth_kind)
        self.max_depth_m = max_depth_m
        self.pretrained = DinoV2(self.preset)
        self.depth_head = DptHead(self.preset)
        if self.depth_kind is DepthKind.DISPARITY_AFFINE_INVARIANT:
            last = cast(nn.Conv2d, self.depth_head.scratch.output_conv2[2])
            nn.init.constant_(cast(Tensor, last.bias), START_DISPARITY)

    def activate(self, raw: Tensor) -> Tensor:
        """The last activation: (B, H, W) raw -> disparity >= 0, or depth in metres in (0, max_depth_m)."""
        if self.max_depth_m is None:
            return torch.relu(raw)
        return torch.sigmoid(raw) * self.max_depth_m

    def forward_train(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (B, 3, H, W) float, ImageNet-normalised RGB, H and W multiples of 14.

        Returns raw (B, H, W), before the last activation, and features (B, h*w, dim), the encoder's final
        normalised patch tokens (for feature alignment). Raises UsageError for another shape.
        """
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % PATCH or x.shape[3] % PATCH:
            raise UsageError(f"expected (B, 3, H, W) with H and W multiples of 14, got {tuple(x.shape)}")
        taps = self.pretrained(x)
        raw = self.depth_head(taps, (x.shape[2] // PATCH, x.shape[3] // PATCH))
        return raw, taps[-1]

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, 3, H, W) float, ImageNet-normalised RGB. Returns (B, H, W); unit and sign by depth_kind."""
        return self.activate(self.forward_train(x)[0])


def check_kind(depth_kind: DepthKind, max_depth_m: float | None) -> None:
    """Raise UsageError unless metric depth has a positive maximum and disparity has none."""
    metric = DepthKind(depth_kind) is DepthKind.DEPTH_METRIC_M
    if metric and not (max_depth_m is not None and 0 < max_depth_m < float("inf")):
        hint = "--kind metric --max-depth M"
        raise UsageError(f"metric depth needs a maximum in metres, got {max_depth_m}", hint=hint)
    if not metric and max_depth_m is not None:
        raise UsageError(f"relative disparity has no maximum depth, got {max_depth_m}", hint="leave --max-depth out")
