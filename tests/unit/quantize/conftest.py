"""A ViT-and-head net of toy size with the official layer names, as deployment modules are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

SIZE = (28, 42)


class Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        attention = (q @ k.transpose(-2, -1) * (d // self.heads) ** -0.5).softmax(-1)  # (B, heads, N, N)
        x = x + self.proj((attention @ v).transpose(1, 2).reshape(b, n, d))  # (B, N, D)
        return x + self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))


class ToyDepth(nn.Module):
    def __init__(self, dim: int = 24) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, 14, 14)})
        self.blocks = nn.Sequential(Block(dim, 2), Block(dim, 2))
        self.output_conv1 = nn.Conv2d(dim, 8, 3, padding=1)
        self.output_conv2 = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = self.patch_embed["proj"](x)  # (B, D, h, w)
        tokens = self.blocks(f.flatten(2).transpose(1, 2))  # (B, N, D)
        f = self.output_conv1(torch.relu(tokens.transpose(1, 2).reshape(f.shape)))
        size = (f.shape[2] * 14, f.shape[3] * 14)
        f = nn.functional.interpolate(f, size=size, mode="bilinear", align_corners=True)
        return self.output_conv2(f).squeeze(1)


class Deployed(nn.Module):
    """(1, h, w, 3) uint8 -> (1, h, w) float32; nchw_float: (1, 3, h, w) float32 0..255."""

    def __init__(self, *, nhwc: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = ToyDepth()
        self.nhwc = nhwc

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(0, 3, 1, 2).to(torch.float32) if self.nhwc else x
        return self.net((x - 120.0) / 58.0)


@pytest.fixture(scope="session")
def toy() -> Callable[[str], nn.Module]:
    def make(input_form: str = "nhwc_uint8") -> nn.Module:
        module = Deployed(nhwc=input_form == "nhwc_uint8").eval().requires_grad_(False)
        module.net.output_conv2[2].weight.abs_()
        module.net.output_conv2[2].bias.fill_(0.5)
        return module

    return make


@pytest.fixture(scope="session")
def images() -> list[NDArray[np.uint8]]:
    """Six smooth random pictures (28, 42, 3)."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, SIZE[1])[None, :, None] * rng.uniform(0, 120, (6, 1, 1, 3))
    return [np.clip(r + rng.normal(90, 25, (*SIZE, 3)), 0, 255).astype(np.uint8) for r in ramp]
