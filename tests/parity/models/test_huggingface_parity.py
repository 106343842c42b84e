"""The same random weights, through the key map, in transformers' own nets."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datk.depth.io_spec import DepthKind
from datk.errors import CheckpointError
from datk.models.checkpoint_keys import official_names
from datk.models.depth_anything import DepthAnything
from datk.models.dinov2 import DinoV2
from datk.models.presets import preset
from datk.models.weights import load_checkpoint, load_encoder

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
TOLERANCE = 1e-4


def randomise(module: nn.Module) -> None:
    """Weights that keep activations of order one and leave nothing at its start, so that every key matters."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if "norm" in name and name.endswith("weight"):
                p.copy_(1 + 0.2 * noise)
            elif "lambda1" in name:
                p.copy_(0.5 + 0.2 * noise)
            elif p.ndim > 1 and "embeddings.cls" not in name and "position" not in name:
                fan_in = p[0].numel() if "resize" not in name else p.shape[0]
                p.copy_(noise / math.sqrt(fan_in))
            else:
                p.copy_(0.3 * noise)


def built(model: type[nn.Module], config: object) -> nn.Module:
    """A transformers net without its slow start values: randomise() sets every parameter."""
    with torch.device("meta"):
        net = model(config)
    assert not dict(net.named_buffers())
    net = net.to_empty(device="cpu").eval()
    randomise(net)
    return net


def huggingface_net(size: str, **config: object) -> nn.Module:
    p = preset(size)
    backbone = transformers.Dinov2Config(
        image_size=518,
        patch_size=14,
        hidden_size=p.dim,
        num_hidden_layers=p.depth,
        num_attention_heads=p.heads,
        out_indices=[tap + 1 for tap in p.taps],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    whole = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=p.dim,
        neck_hidden_sizes=list(p.out_channels),
        fusion_hidden_size=p.features,
        **config,
    )
    net = built(transformers.DepthAnythingForDepthEstimation, whole)
    with torch.no_grad():
        net.head.conv3.weight.mul_(0.2)  # neither the ReLU nor the sigmoid saturates
        net.head.conv3.bias.fill_(0.5)
    return net


def ours(hf: nn.Module, size: str, **kind: object) -> DepthAnything:
    with torch.device("meta"):
        net = DepthAnything(size, **kind)  # type: ignore[arg-type]
    net.load_state_dict(official_names(dict(hf.state_dict()), "huggingface"), strict=True, assign=True)
    return net.eval()


def resize_as_huggingface(net: DepthAnything, height: int, width: int) -> None:
    """transformers gives the size, not the scale factor: no grid offset of 0.1."""
    stored = net.pretrained.pos_embed.detach()
    grid = stored[:, 1:].reshape(1, 37, 37, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, size=(height // 14, width // 14), mode="bicubic", align_corners=False)
    net.pretrained.fixed_position = torch.cat((stored[:, :1], resized.flatten(2).transpose(1, 2)), dim=1)


def relative_error(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape and float(b.max() - b.min()) > 0.2 * float(b.abs().max())  # not a constant map
    return float((a - b).abs().max() / b.abs().max())


@pytest.fixture(scope="module")
def small() -> tuple[nn.Module, DepthAnything]:
    hf = huggingface_net("small")
    return hf, ours(hf, "small")


def compare(hf: nn.Module, net: DepthAnything, height: int, width: int) -> None:
    x = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(2))
    net.pretrained.fixed_position = None
    if (height, width) != (518, 518):
        resize_as_huggingface(net, height, width)
    with torch.no_grad():
        expected, found = hf(x).predicted_depth, net(x)
    net.pretrained.fixed_position = None
    assert relative_error(found, expected) <= TOLERANCE


@pytest.mark.parametrize("size", [(518, 518), (392, 518), (252, 252)], ids=["518x518", "392x518", "252x252"])
def test_small_equals_huggingface(small: tuple[nn.Module, DepthAnything], size: tuple[int, int]) -> None:
    compare(*small, *size)


def test_own_resize_differs_from_huggingface_only_in_the_position_embedding(
    small: tuple[nn.Module, DepthAnything],
) -> None:
    hf, net = small
    x = torch.randn(1, 3, 252, 252, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert relative_error(net(x), hf(x).predicted_depth) > 10 * TOLERANCE


@pytest.fixture(scope="module")
def base() -> tuple[nn.Module, DepthAnything]:
    hf = huggingface_net("base")
    return hf, ours(hf, "base")


def test_base_equals_huggingface_at_252(base: tuple[nn.Module, DepthAnything]) -> None:
    compare(*base, 252, 252)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(518, 518), (392, 518)], ids=["518x518", "392x518"])
def test_base_equals_huggingface_at_full_size(base: tuple[nn.Module, DepthAnything], size: tuple[int, int]) -> None:
    compare(*base, *size)


def test_metric_small_equals_huggingface() -> None:
    hf = huggingface_net("small", depth_estimation_type="metric", max_depth=20)
    net = ours(hf, "small", depth_kind=DepthKind.DEPTH_METRIC_M, max_depth_m=20.0)
    compare(hf, net, 126, 168)


@pytest.mark.parametrize("metric", [False, True], ids=["relative", "metric"])
def test_files_saved_by_huggingface_load_by_their_config(tmp_path: Path, metric: bool) -> None:
    extra = {"depth_estimation_type": "metric", "max_depth": 80} if metric else {}
    hf = huggingface_net("tiny", **extra)
    hf.save_pretrained(tmp_path)
    checkpoint = load_checkpoint(tmp_path / "model.safetensors")
    assert (checkpoint.source_format, checkpoint.preset.name) == ("huggingface", "tiny")
    assert checkpoint.max_depth_m == (80.0 if metric else None)
    compare(hf, checkpoint.net, 56, 84)


def test_version_1_taps_in_the_config_are_refused(tmp_path: Path) -> None:
    huggingface_net("tiny").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["backbone_config"]["out_indices"] = [5, 6, 7, 8]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"out_indices is \[5, 6, 7, 8\], expected \[2, 4, 6, 8\] for V2"):
        load_checkpoint(tmp_path / "model.safetensors")


def test_huggingface_dinov2_loads_as_encoder(tmp_path: Path) -> None:
    p = preset("tiny")
    config = transformers.Dinov2Config(
        image_size=518, patch_size=14, hidden_size=p.dim, num_hidden_layers=p.depth, num_attention_heads=p.heads
    )
    hf = built(transformers.Dinov2Model, config)
    hf.save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path / "model.safetensors", "tiny")
    x = torch.randn(1, 3, 518, 518, generator=torch.Generator().manual_seed(2))  # no resize
    with torch.no_grad():
        assert relative_error(encoder(x)[-1], hf(x).last_hidden_state[:, 1:]) <= TOLERANCE


def test_giant_encoder_cut_to_four_layers_equals_huggingface_swiglu() -> None:
    p = replace(preset("giant"), depth=4, taps=(0, 1, 2, 3))
    config = transformers.Dinov2Config(
        image_size=518,
        patch_size=14,
        hidden_size=p.dim,
        num_hidden_layers=4,
        num_attention_heads=p.heads,
        use_swiglu_ffn=True,
    )
    hf = built(transformers.Dinov2Model, config)
    with torch.device("meta"):
        encoder = DinoV2(p)
    state = official_names(dict(hf.state_dict()), "huggingface-dinov2")
    encoder.load_state_dict({k.removeprefix("pretrained."): v for k, v in state.items()}, strict=True, assign=True)
    grid = encoder.pos_embed.detach()[:, 1:].reshape(1, 37, 37, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, size=(5, 6), mode="bicubic").flatten(2).transpose(1, 2)
    encoder.fixed_position = torch.cat((encoder.pos_embed.detach()[:, :1], resized), dim=1)
    x = torch.randn(1, 3, 70, 84, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = hf(x, output_hidden_states=True)
        found = encoder.eval()(x)
        for i, tap in enumerate(found):
            assert relative_error(tap, hf.layernorm(expected.hidden_states[i + 1])[:, 1:]) <= TOLERANCE
