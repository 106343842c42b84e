"""The stress net: the same function with massive residual channels, and attention as peaked as asked for."""

from __future__ import annotations

import pytest
import torch

from datk.errors import UsageError
from datk.models.depth_anything import DepthAnything
from datk.models.presets import Preset
from datk.models.stress import (
    LARGEST,
    MASSIVE,
    attention_shape,
    largest_residual,
    middle_blocks,
    scale_residual,
    sharpen_attention,
)

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


@pytest.fixture(scope="module")
def net() -> DepthAnything:
    torch.manual_seed(0)
    made = DepthAnything(TOY).eval().requires_grad_(False)
    for module in made.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            torch.nn.init.kaiming_uniform_(module.weight, a=1.0)
    return made


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 42, 56, generator=torch.Generator().manual_seed(0))


def test_massive_residuals_change_no_bit_of_the_function(net, images):
    stressed = scale_residual(net, images)
    assert torch.equal(stressed(images), net(images))


def test_residuals_are_massive_in_the_two_middle_blocks_alone(net, images):
    before, after = largest_residual(net, images), largest_residual(scale_residual(net, images), images)
    for index, (small, large) in enumerate(zip(before, after, strict=True)):
        if index in middle_blocks(TOY.depth):
            assert large >= LARGEST
        else:
            assert large == small


def test_a_lively_stream_is_scaled_until_its_largest_value_is_massive_beside_the_median(net, images):
    """400 beside a median of 5 is no massive activation: the ratio counts as well."""
    louder = scale_residual(net, images, largest=1e-3)
    values: list[torch.Tensor] = []
    block = louder.pretrained.blocks[middle_blocks(TOY.depth)[0]]
    hook = block.norm1.register_forward_pre_hook(lambda _, inputs: values.append(inputs[0] * block.scale))
    louder(images)
    hook.remove()
    entering = values[0].abs()
    assert float(entering.max()) > 0.5 * MASSIVE * float(entering.median())


def test_scaling_twice_keeps_the_function_too(net, images):
    once = scale_residual(net, images)
    twice = scale_residual(once, images, largest=4 * max(largest_residual(once, images)))
    assert torch.equal(twice(images), net(images))
    assert max(largest_residual(twice, images)) > max(largest_residual(once, images))


def test_the_given_net_stays_as_it_was(net, images):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    scale_residual(sharpen_attention(net, images), images)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("top_mass", [0.6, 0.75])
def test_attention_becomes_as_peaked_as_asked_for(net, images, top_mass):
    assert attention_shape(net, images).top_mass < top_mass
    shape = attention_shape(sharpen_attention(net, images, top_mass=top_mass), images)
    assert top_mass <= shape.top_mass < top_mass + 0.05


def test_attention_that_is_peaked_already_stays(net, images):
    sharp = sharpen_attention(net, images)
    again = sharpen_attention(sharp, images)
    for one, other in zip(sharp.parameters(), again.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=0.03)


def test_what_cannot_be_stressed_is_a_usage_error(net, images):
    with pytest.raises(UsageError, match="largest residual value must be positive"):
        scale_residual(net, images, largest=0)
    with pytest.raises(UsageError, match="at least two blocks"):
        middle_blocks(1)
