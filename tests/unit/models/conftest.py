"""Generated checkpoints: every official key and shape by formula, no real weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

# encoder name: dim, depth, swiglu hidden or None, features, out_channels (facts of the official model_configs)
OFFICIAL = {
    "tiny": (192, 8, None, 32, (24, 48, 96, 192)),
    "small": (384, 12, None, 64, (48, 96, 192, 384)),
    "base": (768, 12, None, 128, (96, 192, 384, 768)),
    "large": (1024, 24, None, 256, (256, 512, 1024, 1024)),
    "giant": (1536, 40, 4096, 384, (1536, 1536, 1536, 1536)),
}


def _linear(name: str, out: int, *rest: int) -> Shapes:
    return {f"{name}.weight": (out, *rest), f"{name}.bias": (out,)}


def encoder_shapes(size: str) -> Shapes:
    dim, depth, swiglu, _, _ = OFFICIAL[size]
    shapes: Shapes = {"cls_token": (1, 1, dim), "pos_embed": (1, 1370, dim), "mask_token": (1, dim)}
    shapes |= _linear("patch_embed.proj", dim, 3, 14, 14) | _linear("norm", dim)
    for i in range(depth):
        block = f"blocks.{i}"
        shapes |= _linear(f"{block}.norm1", dim) | _linear(f"{block}.norm2", dim)
        shapes |= _linear(f"{block}.attn.qkv", 3 * dim, dim) | _linear(f"{block}.attn.proj", dim, dim)
        shapes |= {f"{block}.ls1.gamma": (dim,), f"{block}.ls2.gamma": (dim,)}
        if swiglu:
            shapes |= _linear(f"{block}.mlp.w12", 2 * swiglu, dim) | _linear(f"{block}.mlp.w3", dim, swiglu)
        else:
            shapes |= _linear(f"{block}.mlp.fc1", 4 * dim, dim) | _linear(f"{block}.mlp.fc2", dim, 4 * dim)
    return shapes


def official_shapes(size: str) -> Shapes:
    dim, _, _, f, out = OFFICIAL[size]
    shapes: Shapes = {f"pretrained.{k}": v for k, v in encoder_shapes(size).items()}
    for i, channels in enumerate(out):
        shapes |= _linear(f"depth_head.projects.{i}", channels, dim, 1, 1)
        shapes[f"depth_head.scratch.layer{i + 1}_rn.weight"] = (f, channels, 3, 3)
        shapes |= _linear(f"depth_head.scratch.refinenet{i + 1}.out_conv", f, f, 1, 1)
        for unit in ("resConfUnit1.conv1", "resConfUnit1.conv2", "resConfUnit2.conv1", "resConfUnit2.conv2"):
            shapes |= _linear(f"depth_head.scratch.refinenet{i + 1}.{unit}", f, f, 3, 3)
    shapes |= _linear("depth_head.resize_layers.0", out[0], out[0], 4, 4)
    shapes |= _linear("depth_head.resize_layers.1", out[1], out[1], 2, 2)
    shapes |= _linear("depth_head.resize_layers.3", out[3], out[3], 3, 3)
    shapes |= _linear("depth_head.scratch.output_conv1", f // 2, f, 3, 3)
    shapes |= _linear("depth_head.scratch.output_conv2.0", 32, f // 2, 3, 3)
    shapes |= _linear("depth_head.scratch.output_conv2.2", 1, 32, 1, 1)
    return shapes


def cheap_state(shapes: Shapes) -> dict[str, Tensor]:
    """Every key and shape over one stored number each: files of kilobytes for nets of gigabytes."""
    return {k: torch.full((1,), 0.01 * (i % 7)).expand(s) for i, (k, s) in enumerate(shapes.items())}


def random_state(shapes: Shapes) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {k: torch.randn(s, generator=generator) * 0.02 for k, s in shapes.items()}


@pytest.fixture(scope="session")
def shapes_of() -> Callable[[str], Shapes]:
    return official_shapes


@pytest.fixture(scope="session")
def encoder_shapes_of() -> Callable[[str], Shapes]:
    return encoder_shapes


@pytest.fixture(scope="session")
def cheap() -> Callable[[Shapes], dict[str, Tensor]]:
    return cheap_state


@pytest.fixture
def tiny_state() -> dict[str, Tensor]:
    return random_state(official_shapes("tiny"))


@pytest.fixture(scope="session")
def vits_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the official name, layout and size, holding random weights."""
    path = tmp_path_factory.mktemp("official") / "depth_anything_v2_vits.pth"
    torch.save(random_state(official_shapes("small")), path)
    return path
