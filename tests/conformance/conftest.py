"""One toy net for every target: the real architecture, four blocks (one a tap), random weights, a lively map.

It is a stress net (datk.models.stress): massive residual channels in the middle blocks, peaked attention. A target that
is right on tame weights only does not get through.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datk.depth.io_spec import IMAGENET_MEAN, IMAGENET_STD, DepthKind
from datk.models.deployment import deployment_module
from datk.models.depth_anything import DepthAnything
from datk.models.presets import Preset
from datk.models.stress import stress_net
from datk.quantize.ptq import quantize_module
from datk.targets import available
from datk.targets.base import BuildRequest, BuildResult, Target

SIZE = (42, 56)
"""Not square and not one multiple: a swapped height and width cannot pass."""

TOY = Preset(
    name="toy",
    dim=64,
    depth=4,
    heads=1,
    ffn="mlp",
    taps=(0, 1, 2, 3),
    features=16,
    out_channels=(8, 8, 16, 16),
    licence="Apache-2.0",
)


@cache
def toy_net() -> DepthAnything:
    """The toy preset with lively weights, stressed on its own pictures."""
    torch.manual_seed(0)
    net = DepthAnything(TOY, depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT)
    return stress_net(lively(net), normalised(toy_images()))


def lively(net: DepthAnything) -> DepthAnything:
    """Random weights, scaled up so that the map varies, the last bias raised so that no ReLU cuts it flat; in place."""
    net.eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            torch.nn.init.kaiming_uniform_(module.weight, a=1.0)
    net.depth_head.scratch.output_conv2[2].weight.abs_()
    net.depth_head.scratch.output_conv2[2].bias.fill_(0.3)
    return net


def normalised(images: Sequence[np.ndarray]) -> torch.Tensor:
    """(h, w, 3) uint8 images -> (B, 3, h, w) float32, as the net itself takes them."""
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (x - mean) / std


@cache
def toy_images() -> tuple[np.ndarray, ...]:
    """Eight smooth pictures (42, 56, 3) uint8 with colour gradients and blobs."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]] / SIZE[1]
    images = []
    for _ in range(8):
        image = np.zeros((*SIZE, 3))
        for _ in range(4):
            cy, cx, width = [*rng.uniform(0, 1, 2).tolist(), rng.uniform(0.1, 0.6)]
            image += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / width**2)[..., None] * rng.uniform(-150, 200, 3)
        images.append(np.clip(image + 60 + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8))
    return tuple(images)


@cache
def float_module(input_form: str) -> torch.nn.Module:
    return deployment_module(toy_net(), SIZE, input_form)


@cache
def quantised_module(name: str) -> torch.nn.Module:
    target = available()[name]
    return quantize_module(
        float_module(target.input_form),
        toy_images(),
        target.load(target.scheme)(),
        input_form=target.input_form,
        input_size=SIZE,
        seed=0,
    )


def torch_depth(image: np.ndarray) -> np.ndarray:
    """(h, w) float32: what every artifact is compared with, from the same uint8 bucket image."""
    return float_module("nhwc_uint8")(torch.from_numpy(image[None]))[0].numpy()


def build_target(target: Target, precision: str, out: Path) -> BuildResult:
    module = quantised_module(target.name) if precision == "int8" else float_module(target.input_form)
    return target.load(target.build)(
        BuildRequest(
            module=module,
            float_module=float_module(target.input_form),
            precision=precision,
            input_size=SIZE,
            depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT,
            photos=toy_images(),
            metadata={"checkpoint_sha256": "0" * 64},
            out=out,
        )
    )


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    """The toy net's size, pictures, torch answers and how to build a target from it."""
    return SimpleNamespace(
        size=SIZE, images=toy_images(), net=toy_net(), depth=torch_depth, build=build_target, module=float_module
    )


@dataclass(frozen=True)
class Built:
    target: Target
    precision: str
    folder: Path
    result: BuildResult


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], Built]]:
    """Build a target at a precision once per session; skips, naming the SDK, when it is not installed."""
    made: dict[tuple[str, str], Built] = {}
    root = tmp_path_factory.mktemp("artifacts")

    def make(name: str, precision: str) -> Built:
        target = available()[name]
        if missing := target.missing():
            pytest.skip(f"target {name}: SDK not installed here: {', '.join(missing)}")
        if (name, precision) not in made:
            folder = root / f"{name}-{precision}"
            folder.mkdir()
            made[name, precision] = Built(target, precision, folder, build_target(target, precision, folder))
        return made[name, precision]

    yield make
    shutil.rmtree(root, ignore_errors=True)
