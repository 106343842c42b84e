"""A map computed under bfloat16 autocast varies as finely as one in float32: its last layers stay there."""

from __future__ import annotations

import pytest
import torch

from datk.models.depth_anything import DepthAnything

IMAGE = torch.rand(1, 3, 56, 70, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", ["tiny", "mobile"])
def test_a_map_under_bfloat16_is_not_in_terraces(size: str) -> None:
    torch.manual_seed(0)
    net = DepthAnything(size).eval()
    with torch.inference_mode():
        for convolution in (m for m in net.modules() if isinstance(m, torch.nn.Conv2d)):
            last = convolution
        assert last.bias is not None
        last.bias.fill_(3.0)  # far from 0 beside what the map varies by, as a random net's is
        exact = net(IMAGE)
        with torch.autocast("cpu", torch.bfloat16):
            found = net(IMAGE)
    assert found.dtype == torch.float32
    assert found.unique().numel() > exact.unique().numel() / 2
