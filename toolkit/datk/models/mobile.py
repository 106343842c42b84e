"""The `mobile` net: MobileNetV2 from `transformers` and a light decoder, convolutions alone, made to run in int8.

Sources: Sandler et al. 2018 (arXiv 1801.04381) for the encoder; the decoder is a feature pyramid (Lin et al. 2017) of
separable convolutions. No attention, LayerNorm, einsum, unfolding or tensor of more than four dimensions; every
convolution but the last two has a BatchNorm that folds into it, and every activation is ReLU6, whose range is known.
"""

from __future__ import annotations

from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from datk.errors import EnvironmentLacks
from datk.models.full_precision import in_float32
from datk.models.presets import PATCH, Preset

Maps = tuple[Tensor, Tensor, Tensor, Tensor]
EXTRA = "pip install 'datk[experts]'"
MOMENTUM = 0.1
"""Of the running statistics. TensorFlow's 0.997, which transformers hands on, means the opposite in torch."""
TAIL = 32
"""Channels of the half-resolution map before the last two convolutions."""


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm2d whose state is floating point alone: with a fixed momentum nothing reads its count of batches."""

    def __init__(self, channels: int, eps: float = 1e-3) -> None:
        super().__init__(channels, eps=eps, momentum=MOMENTUM)
        self.num_batches_tracked = None

    def _load_from_state_dict(self, *args: Any) -> None:
        nn.Module._load_from_state_dict(self, *args)  # type: ignore[no-untyped-call]  # the parent's adds a count


class ConvNorm(nn.Module):
    """Convolution without bias, BatchNorm, ReLU6 unless it is linear; normalization is None once it is folded."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, *, groups: int = 1, linear: bool = False) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.normalization: BatchNorm | None = BatchNorm(outputs)
        self.activation = None if linear else nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x)
        if self.normalization is not None:
            x = self.normalization(x)
        return x if self.activation is None else self.activation(x)


class Separable(nn.Module):
    """Depthwise 3x3 and pointwise convolution, each with BatchNorm and ReLU6: (B, C, h, w) -> (B, C', h, w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = ConvNorm(inputs, inputs, 3, groups=inputs)
        self.pointwise = ConvNorm(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.pointwise(self.depthwise(x)))


class MobileEncoder(nn.Module):
    """MobileNetV2 without its classifier: (B, 3, H, W) normalised -> four maps (B, C_i, H_i, W_i), finest first.

    Strides 4, 8, 16 and 32, rounded up. Padding is symmetric. Raises EnvironmentLacks without transformers.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        self.watch: list[Tensor] | None = None
        """While a list: what leaves each block, (B, h*w, C), is appended to it."""
        model = _mobilenet_v2()
        self.conv_stem: nn.Module = model.conv_stem
        self.blocks: nn.ModuleList = model.layer
        _prepare(self)

    def forward(self, x: Tensor) -> Maps:
        x = self.conv_stem(x)
        tapped: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if self.watch is not None:
                self.watch.append(tokens_of(x))
            if index in self.preset.taps:
                tapped.append(x)
        first, second, third, last = tapped
        return first, second, third, last


class Output(nn.Module):
    """Container of the last layers; named as in the official nets, so that what looks for them finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(TAIL, TAIL, 3, padding=1, groups=TAIL), nn.ReLU(), nn.Conv2d(TAIL, 1, 1)
        )


class MobileHead(nn.Module):
    """Four maps of the encoder -> the map before its last activation, (B, H, W).

    From the coarsest level: upsample, add the next level's 1x1 projection, refine; once more at half resolution, where
    the last convolution gives one channel that is upsampled to (H, W). Bilinear, corners aligned, as in the DPT head.
    """

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        width = preset.features
        self.lateral = nn.ModuleList(ConvNorm(channels, width, linear=True) for channels in preset.out_channels)
        self.refine = nn.ModuleList(Separable(width, width) for _ in range(3))
        self.tail = Separable(width, TAIL)
        self.scratch = Output()
        _prepare(self)

    def forward(self, maps: Maps, grid: tuple[int, int]) -> Tensor:
        """grid: (H/14, W/14)."""
        height, width = PATCH * grid[0], PATCH * grid[1]
        x: Tensor = self.lateral[3](maps[3])
        for level in (2, 1, 0):
            x = upsample(x, (maps[level].shape[2], maps[level].shape[3])) + self.lateral[level](maps[level])
            x = self.refine[level](x)
        x = self.tail(upsample(x, (height // 2, width // 2)))  # (B, TAIL, H/2, W/2); H and W are even
        x = in_float32(self.scratch.output_conv2, x)
        return upsample(x, (height, width)).squeeze(1)


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) -> (B, C, *size), bilinear, corners aligned."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def tokens_of(features: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h*w, C); what is (B, N, C) already stays."""
    return features if features.ndim == 3 else features.flatten(2).transpose(1, 2)


def _mobilenet_v2() -> Any:
    """transformers' bare model at its published width, without the classifier's convolution in use."""
    try:
        from transformers import MobileNetV2Config, MobileNetV2Model
    except ImportError as error:
        raise EnvironmentLacks("the mobile net's encoder needs transformers", hint=EXTRA) from error
    return MobileNetV2Model(MobileNetV2Config(tf_padding=False), add_pooling_layer=False)


def _prepare(module: nn.Module) -> None:
    """Every BatchNorm ours, every convolution drawn anew for ReLU (He et al. 2015, fan out)."""
    for owner in list(module.modules()):
        if isinstance(owner, nn.Conv2d):
            nn.init.kaiming_normal_(owner.weight, mode="fan_out", nonlinearity="relu")
            if owner.bias is not None:
                nn.init.zeros_(owner.bias)
        norm = getattr(owner, "normalization", None)
        if isinstance(norm, nn.BatchNorm2d) and not isinstance(norm, BatchNorm):
            owner.normalization = BatchNorm(norm.num_features, norm.eps)
