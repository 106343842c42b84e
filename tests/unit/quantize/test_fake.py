"""Quantisation-aware training on a net of a block a tap: what it trains is what is exported, and it helps."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from datk.config.augment_section import AugmentSection
from datk.config.qat_section import QatSection
from datk.models.absorb import absorb_gains
from datk.models.deployment import deployment_module
from datk.models.depth_anything import DepthAnything
from datk.models.presets import Preset
from datk.quantize.calibration import input_tensor
from datk.quantize.fake import FakeQuantised, fake_quantised, learnable_scheme, rounded_straight_through
from datk.quantize.ptq import quantize_module
from datk.targets.pt2e import FLOAT_LAYERS, LinearConvQuantizer, QuantScheme
from datk.train.loop import TrainingError
from datk.train.qat import train_quantised
from tests.conformance.conftest import normalised

SIZE = (28, 42)
FORM = "nhwc_uint8"
FOUR_BLOCKS = Preset(
    name="tiny",
    dim=16,
    depth=4,
    heads=1,
    ffn="mlp",
    taps=(0, 1, 2, 3),
    features=8,
    out_channels=(8, 8, 8, 8),
    licence="Apache-2.0",
)
OUTLIER = 300.0
KEPT_FLOAT = (*FLOAT_LAYERS, r"(^|\.)blocks\.0\.")
SECTION = QatSection(steps=16, batch_size=2, learning_rate=1e-4, augment=AugmentSection(flip=False))


def pictures(count: int, seed: int) -> list[NDArray[np.uint8]]:
    """(28, 42, 3) uint8: slopes of colour with some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]] / SIZE[1]
    slopes = [rng.uniform(-150, 150, (2, 1, 1, 3)) for _ in range(count)]
    ramps = [y[..., None] * a + x[..., None] * b + 120 for a, b in slopes]
    return [np.clip(r + rng.normal(0, 12, (*SIZE, 3)), 0, 255).astype(np.uint8) for r in ramps]


@dataclass(frozen=True)
class Pictures:
    """An image source of pictures in memory."""

    images: list[NDArray[np.uint8]]
    name: str = "pictures"

    def __len__(self) -> int:
        return len(self.images)

    def key(self, index: int) -> str:
        return f"picture {index}"

    def encoded(self, index: int) -> bytes:
        return self.images[index].tobytes()

    def read(self, index: int) -> NDArray[np.uint8]:
        return self.images[index]


@pytest.fixture(scope="module")
def net() -> DepthAnything:
    """Random weights; one channel between two convolutions in other units than the rest, which changes no answer but
    leaves the others few levels where a weight has one scale."""
    torch.manual_seed(0)
    net = DepthAnything(FOUR_BLOCKS).eval().requires_grad_(False)
    for name, parameter in net.named_parameters():
        if name.endswith("gamma"):
            parameter.fill_(1.0)
    for unit in (
        net.depth_head.scratch.get_submodule(f"refinenet{i}.resConfUnit{k}") for i in (1, 2, 3) for k in (1, 2)
    ):
        unit.conv1.weight[0] *= OUTLIER
        unit.conv1.bias[0] *= OUTLIER
        unit.conv2.weight[:, 0] /= OUTLIER
    return net


@pytest.fixture(scope="module")
def scheme() -> QuantScheme:
    quantizer = LinearConvQuantizer(per_channel_weights=False, float_layers=KEPT_FLOAT)
    return QuantScheme(quantizer=quantizer, fold_quantize=True, smooth_quant=True)


@pytest.fixture(scope="module")
def prepared(net: DepthAnything, scheme: QuantScheme) -> FakeQuantised:
    return fake_quantised(net, pictures(4, 0), scheme, input_form=FORM, input_size=SIZE, seed=0)


@pytest.fixture
def fake(prepared: FakeQuantised) -> FakeQuantised:
    """Untrained, and the test's own."""
    return copy.deepcopy(prepared)


def error(fake: FakeQuantised, net: DepthAnything, images: list[NDArray[np.uint8]]) -> float:
    """Mean 1 - r of the fake-quantised map against net's, in float."""
    found = []
    with torch.no_grad():
        for image in images:
            x = normalised([image])
            maps = np.stack([fake.learner.eval()(x)[0].numpy().ravel(), net(x).numpy().ravel()])
            found.append(1 - np.corrcoef(maps)[0, 1])
    return float(np.mean(found))


def train(fake: FakeQuantised, net: DepthAnything, out: Path, section: QatSection = SECTION, **options):
    return train_quantised(
        section,
        net,
        fake,
        Pictures(pictures(16, 1)),
        out,
        input_size=SIZE,
        seed=0,
        metadata={"licence": "Apache-2.0"},
        made_from={"scheme": "coarse"},
        **options,
    )


def test_what_trains_answers_as_the_program_that_is_exported(
    net: DepthAnything, scheme: QuantScheme, prepared: FakeQuantised
) -> None:
    """To the bit: the same grids and rounding, LayerScale folded, SmoothQuant's factors in place. Two of five pictures
    may differ, where another kernel's last digit decides a value on the very edge between two levels."""
    program = quantize_module(
        deployment_module(net, SIZE, FORM),
        pictures(4, 0),
        learnable_scheme(scheme),
        input_form=FORM,
        input_size=SIZE,
        seed=0,
    )
    apart = []
    for image in pictures(5, 5):
        with torch.no_grad():
            answer, _ = prepared.learner.eval()(normalised([image]))
            exported = program(input_tensor(image, FORM))
        apart.append(float((answer - exported).abs().mean() / (exported.max() - exported.min())))
    assert np.median(apart) < 1e-6 and max(apart) < 1e-2, apart
    assert error(prepared, net, pictures(3, 5)) > 1e-2, "nothing was rounded"


def test_what_the_scheme_leaves_in_float_is_not_rounded_and_learns_all_the_same(fake: FakeQuantised) -> None:
    rounded = {
        str(weight.target)
        for node in fake.learner.program.graph.nodes
        if "rounded_weight" in str(node.target)
        for weight in [node.all_input_nodes[0]]
    }
    names = {name.removeprefix("net.") for name in rounded if not name.startswith("factor")}
    assert names and not any("patch_embed" in n or "output_conv2" in n or "blocks.0." in n for n in names)
    fake.learner(normalised(pictures(1, 2)))[0].sum().backward()
    gradients = {n: p.grad for n, p in fake.net.named_parameters() if p.requires_grad}
    assert set(gradients) == set(fake.learnt)
    for name in (
        "pretrained.blocks.0.attn.qkv.weight",
        "pretrained.blocks.3.mlp.fc2.weight",
        "depth_head.projects.3.bias",
    ):
        assert gradients[name] is not None and bool(gradients[name].abs().sum() > 0), name
    assert "pretrained.patch_embed.proj.weight" not in fake.learnt  # the input's normalisation is folded into it


def test_it_lowers_the_error_on_pictures_it_did_not_see_and_writes_a_float_checkpoint(
    net: DepthAnything, fake: FakeQuantised, tmp_path: Path
) -> None:
    held_out = pictures(6, 9)
    before = error(fake, net, held_out)
    result = train(fake, net, tmp_path)
    after = error(fake, net, held_out)
    assert after < 0.5 * before, (before, after)
    state = load_file(result.weights)
    assert {v.dtype for v in state.values()} == {torch.float32} and set(state) == set(net.state_dict())
    for name, value in fake.net.state_dict().items():
        assert torch.equal(state[name], value)
    assert result.facts["learnt"] == len(fake.learnt)


def test_resumed_is_uninterrupted(net: DepthAnything, prepared: FakeQuantised, tmp_path: Path) -> None:
    short = SECTION.model_copy(update={"steps": 2, "batch_size": 1})
    whole, parts, again = (copy.deepcopy(prepared) for _ in range(3))
    train(whole, net, tmp_path / "whole", short)
    train(parts, net, tmp_path / "parts", short, stop_after=1)
    assert train(again, net, tmp_path / "parts", short).fit.resumed_from == 1
    for name, value in whole.net.state_dict().items():
        assert torch.equal(again.net.state_dict()[name], value), name


def test_a_loss_that_is_not_finite_ends_it(net: DepthAnything, fake: FakeQuantised, tmp_path: Path) -> None:
    with torch.no_grad():
        fake.net.get_parameter("pretrained.norm.weight").fill_(float("nan"))
    with pytest.raises(TrainingError, match="the loss is nan"):
        train(fake, net, tmp_path)


def test_absorbed_gains_change_neither_the_function_nor_the_names(net: DepthAnything) -> None:
    torch.manual_seed(1)
    with_gains = copy.deepcopy(net)
    for name, parameter in with_gains.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.uniform_(parameter, 0.2, 3.0)
    plain = absorb_gains(with_gains)
    assert set(plain.state_dict()) == set(net.state_dict())
    assert all(bool((p == 1).all()) for n, p in plain.named_parameters() if n.endswith("gamma"))
    x = normalised(pictures(2, 3))
    torch.testing.assert_close(plain(x), with_gains(x), rtol=1e-4, atol=1e-4)


def test_rounding_passes_the_gradient_but_not_beyond_the_grid() -> None:
    x = torch.tensor([-3.0, -0.26, 0.1, 0.9, 5.0], requires_grad=True)
    y = rounded_straight_through(x, 0.5, 0, -2, 2)
    assert y.tolist() == [-1.0, -0.5, 0.0, 1.0, 1.0]
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 1, 0]
