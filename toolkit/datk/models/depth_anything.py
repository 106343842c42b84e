"""Depth Anything V2: DINOv2 encoder and DPT head, relative or metric; or the convolutional `mobile` in their place.

Source: Yang et al. 2024 (arXiv 2406.09414); the same function and state-dict keys as the official code.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from datk.depth.io_spec import DepthKind
from datk.errors import UsageError
from datk.models.backbones import Backbone, EncoderSpec
from datk.models.dinov2 import DinoV2
from datk.models.dpt import DptHead
from datk.models.mobile import Maps, MobileEncoder, MobileHead, tokens_of
from datk.models.presets import PATCH, Preset
from datk.models.presets import preset as preset_named

START_DISPARITY = 0.5
"""Bias of the last convolution of an untrained relative net: its ReLU starts alive everywhere."""


class DepthAnything(nn.Module):
    """Image to depth. forward() is what is deployed, forward_train() what losses are put on.

    preset: a Preset or its name. depth_kind says what the output is: disparity_affine_invariant
    (ReLU; larger is nearer) or depth_metric_m (sigmoid times max_depth_m; larger is farther).
    encoder: one of another family in DINOv2's place; the preset then says the head's size alone.
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
        encoder: Backbone | None = None,
    ) -> None:
        super().__init__()
        check_kind(depth_kind, max_depth_m)
        self.preset = preset_named(preset) if isinstance(preset, str) else preset
        if encoder is not None:
            self.preset = replace(
                self.preset, dim=encoder.dim, depth=encoder.depth, heads=encoder.heads, taps=encoder.spec.taps
            )
        self.depth_kind = DepthKind(depth_kind)
        self.max_depth_m = max_depth_m
        self.pretrained: DinoV2 | Backbone | MobileEncoder
        self.depth_head: DptHead | MobileHead
        if self.preset.backbone == "mobilenet_v2":
            if encoder is not None:
                raise UsageError(f"{self.preset.name} has its own encoder", hint="take tiny or small with an encoder")
            self.pretrained, self.depth_head = MobileEncoder(self.preset), MobileHead(self.preset)
        else:
            self.pretrained = DinoV2(self.preset) if encoder is None else encoder
            self.depth_head = DptHead(self.preset)
        if self.depth_kind is DepthKind.DISPARITY_AFFINE_INVARIANT:
            last = cast(nn.Conv2d, self.depth_head.scratch.output_conv2[2])
            nn.init.constant_(cast(Tensor, last.bias), START_DISPARITY)

    @property
    def encoder_spec(self) -> EncoderSpec | None:
        """What rebuilds an encoder of another family; None for DINOv2 as the paper has it."""
        return self.pretrained.spec if isinstance(self.pretrained, Backbone) else None

    def activate(self, raw: Tensor) -> Tensor:
        """The last activation: (B, H, W) raw -> disparity >= 0, or depth in metres in (0, max_depth_m)."""
        if self.max_depth_m is None:
            return torch.relu(raw)
        return torch.sigmoid(raw) * self.max_depth_m

    def forward_train(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (B, 3, H, W) float, ImageNet-normalised RGB, H and W multiples of 14.

        Returns raw (B, H, W), before the last activation, and features (B, h*w, dim), the encoder's final
        normalised patch tokens (for feature alignment; of `mobile` its coarsest map). Raises UsageError for another
        shape.
        """
        raw, taps = self._run(x)
        return raw, tokens_of(taps[-1])

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, 3, H, W) float, ImageNet-normalised RGB. Returns (B, H, W); unit and sign by depth_kind."""
        return self.activate(self._run(x)[0])

    def _run(self, x: Tensor) -> tuple[Tensor, Maps]:
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % PATCH or x.shape[3] % PATCH:
            raise UsageError(f"expected (B, 3, H, W) with H and W multiples of 14, got {tuple(x.shape)}")
        taps = self.pretrained(x)
        raw = self.depth_head(taps, (x.shape[2] // PATCH, x.shape[3] // PATCH))
        return raw, taps


def same_shape(net: DepthAnything) -> DepthAnything:
    """A net of its own, random weights, that takes the state of `net`, however `net` is laid out over devices."""
    spec = net.encoder_spec
    encoder = None if spec is None else Backbone(spec)
    return DepthAnything(net.preset, depth_kind=net.depth_kind, max_depth_m=net.max_depth_m, encoder=encoder)


def check_kind(depth_kind: DepthKind, max_depth_m: float | None) -> None:
    """Raise UsageError unless metric depth has a positive maximum and disparity has none."""
    metric = DepthKind(depth_kind) is DepthKind.DEPTH_METRIC_M
    if metric and not (max_depth_m is not None and 0 < max_depth_m < float("inf")):
        hint = "--kind metric --max-depth M"
        raise UsageError(f"metric depth needs a maximum in metres, got {max_depth_m}", hint=hint)
    if not metric and max_depth_m is not None:
        raise UsageError(f"relative disparity has no maximum depth, got {max_depth_m}", hint="leave --max-depth out")
