"""Every export-safe pass keeps the function, and does what its name says."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from datk.depth.io_spec import IMAGENET_MEAN, IMAGENET_STD
from datk.errors import UsageError
from datk.models.deployment import deployment_module
from datk.models.depth_anything import DepthAnything
from datk.models.passes.attention import write_out_attention
from datk.models.passes.channels_first import channels_first
from datk.models.passes.dead_weights import drop_dead_weights
from datk.models.passes.layer_norm import single_layer_norm
from datk.models.passes.layer_scale import fold_layer_scale
from datk.models.passes.normalisation import PIXEL_SCALE, PIXEL_SHIFT, fold_normalisation
from datk.models.passes.position import fix_position_embedding
from datk.models.passes.resize import interpolation_matrix, resize_by_matmul
from datk.models.passes.safe_layer_norm import SafeLayerNorm, write_out_safe_layer_norms
from datk.models.presets import Preset

SIZE = (42, 70)
MICRO: dict = {
    "dim": 24,
    "depth": 4,
    "heads": 2,
    "taps": (0, 1, 2, 3),
    "features": 8,
    "out_channels": (4, 4, 8, 8),
    "licence": "Apache-2.0",
}
ROUNDING = 2e-5
"""Of the largest value: other order of float32 products."""


def micro(ffn: str = "mlp") -> DepthAnything:
    """Random everywhere: LayerScale, norms and biases differ from 1 and 0, so that folding is tested."""
    torch.manual_seed(3)
    net = DepthAnything(Preset(name="micro", ffn=ffn, **MICRO)).eval().requires_grad_(False)
    for p in net.parameters():
        p.add_(torch.randn_like(p) * (0.1 if p.ndim > 1 else 0.3))
    net.depth_head.scratch.output_conv2[2].bias.fill_(2.0)
    return net


def image(size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(5))


def assert_same(net: nn.Module, before: nn.Module, x: Tensor) -> None:
    expected, found = before(x), net(x)
    assert float(expected.std()) > 1e-3, "the test net's map must vary"
    assert float((found - expected).abs().max()) <= ROUNDING * float(expected.abs().max())


@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
@pytest.mark.parametrize(
    ("rewrite", "places"),
    [
        (lambda net: fix_position_embedding(net, SIZE), 1),
        (fold_layer_scale, 8),
        (write_out_attention, 4),
        (drop_dead_weights, 24 + 2 * (8 * 8 * 9 + 8)),
        (lambda net: resize_by_matmul(net, SIZE), 5),
        (write_out_safe_layer_norms, 9),
        (lambda net: fix_position_embedding(net, SIZE) and channels_first(net), 4),
        (lambda net: fix_position_embedding(net, SIZE) and fold_layer_scale(net) and channels_first(net), 4),
    ],
    ids=["position", "layer_scale", "attention", "dead_weights", "resize", "safe_layer_norm", "channels", "channels_2"],
)
def test_pass_keeps_the_function(rewrite, places: int, ffn: str) -> None:
    net = micro(ffn)
    before = copy.deepcopy(net)
    assert rewrite(net) == places
    assert_same(net, before, image())


def test_folded_normalisation_takes_pixels_and_stays_in_half_range() -> None:
    net, pixels = micro(), torch.randint(0, 256, (1, 3, *SIZE), generator=torch.Generator().manual_seed(1)).float()
    before = copy.deepcopy(net)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    assert fold_normalisation(net) == 1
    expected, found = before((pixels / 255 - mean) / std), net(pixels * PIXEL_SCALE - PIXEL_SHIFT)
    assert float((found - expected).abs().max()) <= ROUNDING * float(expected.abs().max())
    scaled = pixels * PIXEL_SCALE - PIXEL_SHIFT
    assert torch.equal(scaled.half().float(), scaled), "8-bit pixels are exact in float16"
    ratio = net.pretrained.patch_embed.proj.weight / before.pretrained.patch_embed.proj.weight
    assert float(ratio.min()) > 1, "no weight comes nearer to float16's smallest"


def test_folded_layer_scale_and_fixed_position_leave_no_trace_in_the_graph() -> None:
    module = deployment_module(micro(), SIZE, "nchw_float")
    program = torch.export.export(module, (torch.zeros(1, 3, *SIZE),))
    names = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    assert not [n for n in names if "bicubic" in n or "einsum" in n or "scaled_dot" in n]
    assert sum("aten.mul" in n for n in names) == 1 + 4, "the pixels' scale and one query scale a block"
    assert not [n for n, _ in module.named_parameters() if "gamma" in n or "mask_token" in n or "pos_embed" in n]


def test_extra_passes_are_made_on_request_and_unknown_ones_refused() -> None:
    net, pixels = micro(), torch.full((1, 3, *SIZE), 90.0) + 60 * image()
    plain = deployment_module(net, SIZE, "nchw_float")
    both = deployment_module(net, SIZE, "nchw_float", passes=("safe-layer-norm", "resize-by-matmul"))
    assert_same(both, plain, pixels)
    names = {str(n.target) for n in torch.export.export(both, (pixels,)).graph.nodes}
    assert not [n for n in names if "upsample" in n or "layer_norm" in n]
    with pytest.raises(UsageError, match="no pass named 'fast'"):
        deployment_module(net, SIZE, "nchw_float", passes=("fast",))  # type: ignore[arg-type]


@given(size_in=st.integers(1, 9), size_out=st.integers(1, 24), seed=st.integers(0, 99))
def test_interpolation_matrix_is_torchs_resize_with_aligned_corners(size_in: int, size_out: int, seed: int) -> None:
    x = torch.randn(1, 1, size_in, 3, generator=torch.Generator().manual_seed(seed))
    expected = F.interpolate(x, size=(size_out, 3), mode="bilinear", align_corners=True)
    matrix = interpolation_matrix(size_in, size_out)
    assert torch.allclose(matrix.sum(1), torch.ones(size_out))
    assert torch.allclose(matrix @ x, expected, atol=2e-6)


@settings(max_examples=40)
@given(
    scale=st.sampled_from([1e-6, 1e-3, 1.0, 400.0]), width=st.sampled_from([8, 384]), outlier=st.sampled_from([1, 1400])
)
def test_safe_layer_norm_is_layer_norm(scale: float, width: int, outlier: int) -> None:
    generator = torch.Generator().manual_seed(width)
    norm = nn.LayerNorm(width, eps=1e-6).requires_grad_(False)
    norm.weight.uniform_(0.5, 2, generator=generator)
    norm.bias.uniform_(-1, 1, generator=generator)
    x = scale * torch.randn(1, 7, width, generator=generator)
    x[..., 3] *= outlier
    expected = norm(x)
    norm.__class__ = SafeLayerNorm
    assert torch.allclose(norm(x), expected, rtol=1e-4, atol=2e-5)


def test_safe_layer_norm_survives_half_precision_where_the_plain_one_overflows() -> None:
    """Every intermediate rounded to float16, as a GPU delegate may: DINOv2's outlier of 1,400."""
    width = 384
    x = torch.randn(1, 5, width, generator=torch.Generator().manual_seed(0)).half()
    x[..., 7] = 1400.0
    norm = nn.LayerNorm(width, eps=1e-6).requires_grad_(False)
    expected = norm(x.float())
    d = x - x.float().mean(-1, keepdim=True).half()
    assert torch.isinf(d * d).any(), "the decomposed form overflows"
    m = d.abs().amax(-1, keepdim=True).clamp_min(2.0**-14)
    s = d / m
    root = torch.tensor(math.sqrt(norm.eps)).half() / m
    square = (s * s).float().mean(-1, keepdim=True).half()
    found = s * torch.rsqrt((square + root * root).float()).half()
    assert torch.isfinite(found).all()
    assert float((found.float() - expected).abs().max()) < 0.02 * float(expected.abs().max())


class ByHand(nn.Module):
    """Three ways LayerNorm is written in the wild, one of them with an affine part."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.rand(6) + 0.5), nn.Parameter(torch.rand(6))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        y = (x - mean) / torch.sqrt((x - mean).pow(2).mean(-1, keepdim=True) + 1e-6) * self.gain + self.bias
        d = y - y.mean(2, keepdim=True)
        y = d * torch.rsqrt((d * d).mean(2, keepdim=True) + 1e-5)
        d = y - y.mean(-1, keepdim=True)
        return torch.rsqrt(d.pow(2).mean(-1, keepdim=True) + 0.5) * d


def test_hand_written_layer_norms_become_one_operation() -> None:
    module, x = ByHand().requires_grad_(False), 3 * torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(2))
    program = torch.export.export(module, (x,))
    graph_module = program.module(check_guards=False)
    expected = module(x)
    assert single_layer_norm(graph_module.graph) == 3
    graph_module.recompile()
    names = [str(n.target) for n in graph_module.graph.nodes if n.op == "call_function"]
    assert names.count("aten.layer_norm.default") == 3 and not [n for n in names if "sqrt" in n or "mean" in n]
    assert torch.allclose(graph_module(x), expected, atol=1e-5)


class NotOne(nn.Module):
    """Looks alike and is none: over another axis, of another tensor, with an eps that is not one."""

    def forward(self, x: Tensor) -> Tensor:
        a = (x - x.mean(1, keepdim=True)) * torch.rsqrt(
            (x - x.mean(1, keepdim=True)).pow(2).mean(1, keepdim=True) + 1.0
        )
        d = a - a.mean(-1, keepdim=True)
        b = d * torch.rsqrt(a.pow(2).mean(-1, keepdim=True) + 1e-6)
        e = b - b.mean(-1, keepdim=True)
        return e * torch.rsqrt(e.pow(3).mean(-1, keepdim=True).abs() + 1.0)


def test_what_only_looks_like_a_layer_norm_is_left_alone() -> None:
    program = torch.export.export(NotOne(), (torch.randn(2, 5, 6),))
    assert single_layer_norm(program.module(check_guards=False).graph) == 0
