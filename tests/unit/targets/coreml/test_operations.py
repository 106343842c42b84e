"""Each MIL operation, as the converter writes it, gives what torch gives.

Pixels are mapped to multiples of 1/64 in [-2, 2), exact in fp16, and weights are made exact in fp16, so that
an fp16 package differs from torch's fp32 result by the final rounding only: at most one fp16 step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

FP16_STEP = 2.0**-10


class Case(nn.Module):
    """f applied to the image in [-2, 2), with layers whose weights fp16 holds exactly."""

    def __init__(self, f: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.f = f
        self.layers = nn.ModuleList(layers).half().float()

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x * (1 / 64) - 2.0, *self.layers)


def norm(size: int) -> nn.LayerNorm:
    layer = nn.LayerNorm(size, eps=2.0**-10)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


def resized(size: tuple[int, int], *, aligned: bool) -> Callable[[Tensor], Tensor]:
    return lambda x: F.interpolate(x, size=size, mode="bilinear", align_corners=aligned)


def per_channel(*values: float) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)


OFFSETS = per_channel(1.0, -0.25, 3.0)


def halves_swapped(x: Tensor) -> Tensor:
    a, b, c = x.split([1, 3, 4], dim=-1)
    return torch.cat([c, a, b], dim=-1)


CASES: dict[str, tuple[str, Callable[..., Tensor], tuple[Callable[[], nn.Module], ...]]] = {
    "linear": ("linear", lambda x, f: f(x), (lambda: nn.Linear(8, 5),)),
    "linear_without_bias": ("linear", lambda x, f: f(x), (lambda: nn.Linear(8, 5, bias=False),)),
    "matmul": ("matmul", lambda x: torch.matmul(x, (x * 0.5).transpose(2, 3)), ()),
    "conv_padded": ("conv", lambda x, f: f(x), (lambda: nn.Conv2d(3, 5, 3, padding=1),)),
    "conv_strided": ("conv", lambda x, f: f(x), (lambda: nn.Conv2d(3, 4, (2, 3), stride=2, padding=(0, 1)),)),
    "conv_grouped_dilated": ("conv", lambda x, f: f(x), (lambda: nn.Conv2d(3, 6, 3, dilation=2, padding=2, groups=3),)),
    "conv_transpose": ("conv_transpose", lambda x, f: f(x), (lambda: nn.ConvTranspose2d(3, 5, 4, stride=4),)),
    "conv_transpose_padded": (
        "conv_transpose",
        lambda x, f: f(x),
        (lambda: nn.ConvTranspose2d(3, 5, 3, stride=2, padding=1),),
    ),
    "layer_norm": ("layer_norm", lambda x, f: f(x), (lambda: norm(8),)),
    "softmax": ("softmax", lambda x: torch.softmax(x * 4, dim=-1), ()),
    "softmax_over_channels": ("softmax", lambda x: torch.softmax(x, dim=1), ()),
    "gelu": ("gelu", lambda x: F.gelu(x), ()),
    "relu": ("relu", lambda x: F.relu(x), ()),
    "sigmoid": ("sigmoid", lambda x: torch.sigmoid(x), ()),
    "silu": ("silu", lambda x: F.silu(x), ()),
    "add": ("add", lambda x: x + F.relu(x), ()),
    "sub": ("sub", lambda x: F.relu(x) - x, ()),
    "mul": ("mul", lambda x: x * F.relu(x), ()),
    "real_div": ("real_div", lambda x: x / (F.relu(x) + 1.0), ()),
    "batch_norm": ("batch_norm", lambda x: x * per_channel(2.0, 0.5, 4.0) + OFFSETS, ()),
    "clip": ("clip", lambda x: x.clamp(-0.5, 1.25), ()),
    "reshape": ("reshape", lambda x: x.reshape(1, 4, 36), ()),
    "transpose": ("transpose", lambda x: x.permute(0, 3, 1, 2), ()),
    "squeeze": ("squeeze", lambda x: x.squeeze(0), ()),
    "expand_dims": ("expand_dims", lambda x: x.unsqueeze(2), ()),
    "split": ("split", halves_swapped, ()),
    "concat": ("concat", lambda x: torch.cat([x, F.relu(x)], dim=1), ()),
    "slice_by_index": ("slice_by_index", lambda x: x[:, 1:, 1:5:2, :-1], ()),
    "select": ("slice_by_index", lambda x: x[:, 1], ()),
    "upsample_aligned": ("upsample_bilinear", resized((11, 13), aligned=True), ()),
    "upsample_unaligned": ("upsample_bilinear", resized((12, 16), aligned=False), ()),
}


def case(name: str) -> Case:
    torch.manual_seed(0)
    _, function, layers = CASES[name]
    return Case(function, *(make() for make in layers))


@pytest.fixture(scope="module")
def results(bench: Any) -> dict[str, tuple[Any, dict[str, Tensor]]]:
    """Precision -> (saved program with one output per case, what the evaluator makes of it)."""
    cases = {name: case(name) for name in CASES}
    return {precision: bench.run_all(cases, precision) for precision in ("fp32", "fp16")}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", CASES)
def test_operation_equals_torch(name: str, precision: str, workshop: Any, results: Any) -> None:
    program, outputs = results[precision]
    with torch.no_grad():
        expected = case(name)(workshop.pixels())
    assert CASES[name][0] in program.histogram()
    assert outputs[name].shape == expected.shape
    if name == "batch_norm":  # the converter writes variance 1 and leaves epsilon at its default, 1e-5
        expected = (expected - OFFSETS) * (1 + 1e-5) ** -0.5 + OFFSETS
    if precision == "fp32":
        torch.testing.assert_close(outputs[name], expected, rtol=1e-5, atol=1e-6)
    else:
        torch.testing.assert_close(outputs[name], expected.half().float(), rtol=FP16_STEP, atol=2e-6)
        assert torch.equal(outputs[name], outputs[name].half().float())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_vectors_cover_what_the_deployed_net_needs(precision: str, results: Any) -> None:
    needed = {"add", "batch_norm", "concat", "conv", "conv_transpose", "gelu", "layer_norm", "linear", "matmul", "mul"}
    needed |= {"relu", "reshape", "sigmoid", "slice_by_index", "softmax", "squeeze", "transpose", "upsample_bilinear"}
    found = results[precision][0].histogram()
    assert needed <= found.keys()
    assert ("cast" in found) == (precision == "fp16")


def test_aligned_upsampling_samples_at_the_corners(workshop: Any) -> None:
    """By hand: output row i of 11 lies at i * 5 / 10 of the 6 input rows."""
    _, result = workshop.run(Case(resized((11, 15), aligned=True)), "fp32")
    x = workshop.pixels() / 64 - 2
    torch.testing.assert_close(result[..., ::2, ::2], x)
    torch.testing.assert_close(result[..., 1::2, ::2], (x[..., :-1, :] + x[..., 1:, :]) / 2)


def test_fp16_linear_accumulates_in_fp32(workshop: Any) -> None:
    """12288 ones: with a rounding after each addition the sum would stop at 2048."""
    layer = nn.Linear(12288, 1, bias=False)
    nn.init.ones_(layer.weight)
    ones = Case(lambda x, f: f((F.relu(x) * 0 + 1).reshape(1, 1, 12288)), layer)
    _, result = workshop.run(ones, "fp16", (32, 128))
    assert result.item() == 12288


def test_fp16_overflow_shows(workshop: Any) -> None:
    _, result = workshop.run(Case(lambda x: (F.relu(x) + 60000.0) * 2.0), "fp16")
    assert torch.isinf(result).all()
