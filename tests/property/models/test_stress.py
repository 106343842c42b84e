"""The stress net: the same function in other units, as massive and as peaked as real DINOv2 is reported to be."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datk.errors import UsageError
from datk.models.deployment import deployment_module
from datk.models.depth_anything import DepthAnything
from datk.models.dinov2 import Block
from datk.models.presets import Preset
from datk.models.stress import (
    StressedBlock,
    attention_shape,
    largest_residual,
    middle_blocks,
    scale_residual,
    sharpen_attention,
    stress_net,
)

TOY = Preset(
    name="toy", dim=32, depth=4, heads=2, ffn="mlp", taps=(0, 1, 2, 3), features=8, out_channels=(4, 4, 8, 8),
    licence="Apache-2.0",
)  # fmt: skip


def net(seed: int = 0) -> DepthAnything:
    torch.manual_seed(seed)
    made = DepthAnything(TOY).eval().requires_grad_(False)
    for block in made.pretrained.blocks:
        for module in block.modules():
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.kaiming_uniform_(module.weight, a=1.0)
        block.ls1.gamma.uniform_(0.1, 1)
        block.ls2.gamma.uniform_(0.1, 1)
    return made


def images(seed: int = 0, size: tuple[int, int] = (42, 56)) -> torch.Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 99),
    st.floats(1.0, 5000.0),
    st.integers(1, 32),
    st.sampled_from([(28, 28), (42, 56), (14, 70)]),
)
def test_massive_channels_change_no_digit_of_the_answer(seed, largest, channels, size):
    plain, x, other = net(seed), images(seed, size), images(seed + 1, size)
    stressed = scale_residual(plain, x, largest=largest, channels=channels)
    assert torch.equal(stressed(x), plain(x))
    assert torch.equal(stressed(other), plain(other))
    reached = largest_residual(stressed, x)
    assert all(reached[i] >= largest for i in middle_blocks(4))


def test_only_the_two_middle_blocks_and_few_channels_become_massive():
    plain, x = net(), images()
    stressed = scale_residual(plain, x)
    kinds = [isinstance(b, StressedBlock) for b in stressed.pretrained.blocks]
    assert kinds == [False, True, True, False]
    before, after = largest_residual(plain, x), largest_residual(stressed, x)
    assert after[0] == before[0] and after[3] == before[3]
    assert min(after[1:3]) >= 400 and max(after) <= 4 * 400 and max(before) < 40
    assert int((stressed.pretrained.blocks[1].scale != 1).sum()) == 2
    assert all(type(b) is Block for b in plain.pretrained.blocks), "the net given is left as it was"


def test_stressing_twice_is_the_same_function_still():
    plain, x = net(), images()
    once = scale_residual(plain, x)
    twice = scale_residual(once, x, largest=3000.0)
    assert torch.equal(twice(x), plain(x)) and min(largest_residual(twice, x)[1:3]) >= 3000


def test_deployed_for_a_compiler_it_still_gives_the_same_map():
    plain, x = net(), images()
    image = torch.randint(0, 256, (1, 42, 56, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    one, other = (deployment_module(n, (42, 56), "nhwc_uint8")(image) for n in (plain, scale_residual(plain, x)))
    assert torch.equal(one, other)


def test_attention_becomes_as_peaked_as_reported_at_449_tokens():
    """91 % of the weights below one 8-bit step, carrying 17-33 % of the mass."""
    x = images(size=(14 * 16, 14 * 28))[:1]
    before, after = (attention_shape(n, x) for n in (net(), sharpen_attention(net(), x)))
    assert after.top_mass == pytest.approx(0.75, abs=0.05) and before.top_mass < after.top_mass
    assert 0.86 <= after.below_step <= 0.96
    assert 0.17 <= after.mass_below_step <= 0.33


def test_both_together_and_an_attention_that_is_peaked_already_stays():
    x = images()
    stressed = stress_net(net(), x)
    assert max(largest_residual(stressed, x)) >= 400
    again = sharpen_attention(stressed, x)
    assert torch.equal(again(x), stressed(x))


def test_what_cannot_be_stressed_is_refused():
    with pytest.raises(UsageError, match="two blocks"):
        middle_blocks(1)
    with pytest.raises(UsageError, match="must be positive"):
        scale_residual(net(), images(), largest=0.0)
