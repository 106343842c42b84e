"""The DPT head that turns four token maps into one dense map, with the official key names.

Source: Ranftl et al. 2021 (arXiv 2103.13413) as used by Depth Anything V2 (depth_anything_v2/dpt.py,
util/blocks.py): no batch norm, bilinear upsampling with align_corners=True throughout.
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from datk.models.full_precision import in_float32
from datk.models.presets import PATCH, Preset

Grid = tuple[int, int]
OUTPUT_HIDDEN = 32


class ResidualConvUnit(nn.Module):
    """ReLU, conv 3x3, ReLU, conv 3x3, plus the input: (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.conv2(F.relu(self.conv1(F.relu(x)))) + x)


class FusionBlock(nn.Module):
    """Adds a lateral level, refines, upsamples to `size`, projects."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(channels, channels, 1)
        self.resConfUnit1 = ResidualConvUnit(channels)
        self.resConfUnit2 = ResidualConvUnit(channels)

    def forward(self, x: Tensor, lateral: Tensor | None, size: Grid) -> Tensor:
        """x: (B, C, h, w) from the coarser level, lateral: same shape or None. Returns (B, C, *size)."""
        if lateral is not None:
            x = x + self.resConfUnit1(lateral)
        x = self.resConfUnit2(x)
        if (
            self.training
        ):  # a 1x1 conv and a bilinear resize commute, up to rounding: fewer pixels to compute and to keep
            return self.upsample(self.out_conv(x), size)
        return cast(Tensor, self.out_conv(self.upsample(x, size)))

    def upsample(self, x: Tensor, size: Grid) -> Tensor:
        """(B, C, h, w) -> (B, C, *size), bilinear, corners aligned."""
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


class Scratch(nn.Module):
    """Container of the fusion and output layers; its name is part of the official keys."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        width = preset.features
        self.layer1_rn = nn.Conv2d(preset.out_channels[0], width, 3, padding=1, bias=False)
        self.layer2_rn = nn.Conv2d(preset.out_channels[1], width, 3, padding=1, bias=False)
        self.layer3_rn = nn.Conv2d(preset.out_channels[2], width, 3, padding=1, bias=False)
        self.layer4_rn = nn.Conv2d(preset.out_channels[3], width, 3, padding=1, bias=False)
        self.refinenet1 = FusionBlock(width)
        self.refinenet2 = FusionBlock(width)
        self.refinenet3 = FusionBlock(width)
        self.refinenet4 = FusionBlock(width)
        self.refinenet4.resConfUnit1.requires_grad_(False)  # in every file, never used: the coarsest has no lateral
        self.output_conv1 = nn.Conv2d(width, width // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(width // 2, OUTPUT_HIDDEN, 3, padding=1), nn.ReLU(), nn.Conv2d(OUTPUT_HIDDEN, 1, 1)
        )


class DptHead(nn.Module):
    """Four token maps (B, h*w, dim) -> the map before its last activation, (B, 14h, 14w)."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        c1, c2, _, c4 = preset.out_channels
        self.projects = nn.ModuleList(nn.Conv2d(preset.dim, c, 1) for c in preset.out_channels)
        self.resize_layers = nn.ModuleList(
            (
                nn.ConvTranspose2d(c1, c1, 4, stride=4),
                nn.ConvTranspose2d(c2, c2, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(c4, c4, 3, stride=2, padding=1),
            )
        )
        self.scratch = Scratch(preset)

    def forward(self, taps: tuple[Tensor, Tensor, Tensor, Tensor], grid: Grid) -> Tensor:
        h, w = grid
        levels: list[Tensor] = []
        for tokens, project, resize in zip(taps, self.projects, self.resize_layers, strict=True):
            b, _, dim = tokens.shape
            image = tokens.transpose(1, 2).reshape(b, dim, h, w)
            levels.append(resize(project(image)))
        s = self.scratch
        l1 = s.layer1_rn(levels[0])  # (B, F, 4h, 4w)
        l2 = s.layer2_rn(levels[1])  # (B, F, 2h, 2w)
        l3 = s.layer3_rn(levels[2])  # (B, F, h, w)
        l4 = s.layer4_rn(levels[3])  # (B, F, ceil(h/2), ceil(w/2))
        x = s.refinenet4(l4, None, (h, w))
        x = s.refinenet3(x, l3, (2 * h, 2 * w))
        x = s.refinenet2(x, l2, (4 * h, 4 * w))
        x = s.refinenet1(x, l1, (8 * h, 8 * w))
        x = s.output_conv1(x)  # (B, F/2, 8h, 8w)
        x = self.upsample(x, (PATCH * h, PATCH * w))
        return in_float32(s.output_conv2, x).squeeze(1)  # (B, 14h, 14w)

    def upsample(self, x: Tensor, size: Grid) -> Tensor:
        """(B, C, h, w) -> (B, C, *size), bilinear, corners aligned."""
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
