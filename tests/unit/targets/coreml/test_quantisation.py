"""quantize, dequantize and int8 weights as the converter writes them equal torch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datk.quantize.program import register_quantized_ops

SCALE, ZERO_POINT = 2.0**-5, -7


class Quantised(nn.Module):
    """An int8 round trip of the input, then a linear layer with int8 weights per output channel."""

    def __init__(self) -> None:
        super().__init__()
        register_quantized_ops()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("weight", torch.randint(-127, 128, (5, 8), generator=generator, dtype=torch.int8))
        self.register_buffer("scales", torch.tensor([2.0**-7, 2.0**-8, 2.0**-6, 2.0**-7, 2.0**-9]))
        self.register_buffer("zeros", torch.zeros(5, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        ops = torch.ops.quantized_decomposed
        x = x * (1 / 64) - 2.0
        q = ops.quantize_per_tensor.default(x, SCALE, ZERO_POINT, -128, 127, torch.int8)
        x = ops.dequantize_per_tensor.default(q, SCALE, ZERO_POINT, -128, 127, torch.int8)
        weight = ops.dequantize_per_channel.default(self.weight, self.scales, self.zeros, 0, -127, 127, torch.int8)
        return nn.functional.linear(x, weight)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_int8_layer_equals_torch(precision: str, workshop: Any) -> None:
    module = Quantised()
    program, result = workshop.run(module, precision)
    expected = module(workshop.pixels())
    assert program.histogram().keys() >= {"quantize", "dequantize", "constexpr_affine_dequantize", "linear"}
    if precision == "int8":
        expected = expected.half().float()
    torch.testing.assert_close(result, expected, rtol=2.0**-10, atol=1e-6)


def test_quantize_clips_and_rounds_half_to_even() -> None:
    from datk.targets.coreml.reference.ops_quantize import quantize

    x = torch.tensor([-1000.0, -0.75, -0.25, 0.25, 0.75, 1.25, 1000.0])
    half = torch.tensor(0.5)
    assert quantize(x, half, "int8").tolist() == [-128, -2, 0, 0, 2, 2, 127]
    assert quantize(x, half, "uint8", zero_point=torch.tensor(3)).tolist() == [0, 1, 3, 3, 5, 5, 255]


def test_weight_blocks_share_scale_and_offset() -> None:
    from datk.targets.coreml.reference.ops_quantize import constexpr_blockwise_shift_scale

    data = torch.tensor([[1, 2, 3, 4]], dtype=torch.int8)
    result = constexpr_blockwise_shift_scale(data, torch.tensor([[2.0, 10.0]]), torch.tensor([[1.0, 3.0]]))
    assert result.tolist() == [[0.0, 2.0, 0.0, 10.0]]
