"""Encoders of other families: taps equal transformers' own hidden states, files are loaded strictly, nets come back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from datk.errors import CheckpointError, UsageError
from datk.models.backbone_files import load_vit_file, vit_names
from datk.models.backbones import Backbone, EncoderSpec, Family, load_backbone, random_encoder, spread_taps
from datk.models.depth_anything import DepthAnything, same_shape
from datk.models.presets import PRESETS
from datk.models.weights import load_checkpoint, save_checkpoint

TINY = replace(PRESETS["tiny"], dim=32, depth=5, heads=2, taps=(0, 1, 3, 4))
SMALLER: dict[Family, dict[str, Any]] = {
    "dinov2": {"image_size": 42},
    "dinov2_with_registers": {"image_size": 42, "num_register_tokens": 3},
    "dinov3_vit": {},
    "vit": {"image_size": 28},
    "beit": {"image_size": 48},
    "sam": {"image_size": 48, "window_size": 2, "output_channels": 8, "global_attn_indexes": [1, 4]},
}
FAMILIES = list(SMALLER)


def _encoder(family: Family, seed: int = 0) -> Backbone:
    """Every weight random, also those that start at zero: position embeddings, biases, registers."""
    torch.manual_seed(seed)
    encoder = random_encoder(family, TINY, SMALLER[family])
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return encoder.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_taps_are_transformers_own_hidden_states(family: Family) -> None:
    encoder = _encoder(family)
    side = {"vit": 28}.get(family, 42)  # the size it was made for, where SAM's own forward pass can be asked
    x = torch.randn(2, 3, side, side)
    grid = side // 14
    pixels = F.interpolate(x, size=(grid * encoder.patch,) * 2, mode="bicubic") if encoder.patch != 14 else x
    with torch.no_grad():
        own = encoder.model(pixels, output_hidden_states=True).hidden_states
        taps = encoder(x)
    assert len(own) == 6
    for tap, block in zip(taps, encoder.spec.taps, strict=True):
        hidden = own[block + 1]
        if family != "sam":
            norm = encoder.model.norm if family == "dinov3_vit" else encoder.model.layernorm
            hidden = norm(hidden)[:, -grid * grid :]
        torch.testing.assert_close(tap, hidden.reshape(2, grid * grid, 32), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_any_bucket_gives_the_grid_of_dinov2_and_gradients_reach_every_weight(family: Family) -> None:
    torch.manual_seed(0)
    net = DepthAnything(TINY, encoder=_encoder(family))
    raw, tokens = net.forward_train(torch.randn(1, 3, 28, 56))
    assert raw.shape == (1, 28, 56) and tokens.shape == (1, 8, 32)
    (raw.square().mean() + tokens.square().mean()).backward()
    dead = [n for n, p in net.named_parameters() if p.requires_grad and p.grad is None]
    assert dead == [], "DistributedDataParallel waits for every weight"


@pytest.mark.parametrize("family", ["beit", "sam"])
def test_recomputation_changes_nothing_and_block_outputs_are_handed_out(family: Family) -> None:
    encoder = _encoder(family).train()
    x = torch.randn(1, 3, 28, 42)
    encoder.watch = []
    plain = encoder(x)
    assert len(encoder.watch) == 5 == len(encoder.blocks)
    encoder.gradient_checkpointing = True
    again = encoder(x)
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    encoder.gradient_checkpointing = False
    assert not encoder.gradient_checkpointing


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_by_save_pretrained_is_loaded_with_its_weights(family: Family, tmp_path: Path) -> None:
    encoder = _encoder(family)
    encoder.model.save_pretrained(tmp_path, safe_serialization=True)
    again = load_backbone(tmp_path, family, TINY.taps).eval()
    x = torch.randn(1, 3, 28, 42)
    with torch.no_grad():
        for a, b in zip(encoder(x), again(x), strict=True):
            assert torch.equal(a, b)


def test_other_folders_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected a folder with config\.json"):
        load_backbone(tmp_path / "none", "beit")
    encoder = _encoder("beit")
    encoder.model.save_pretrained(tmp_path / "beit")
    with pytest.raises(CheckpointError, match="a beit model, the recipe asks for sam"):
        load_backbone(tmp_path / "beit", "sam")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text((tmp_path / "beit/config.json").read_text())
    torch.save(encoder.model.state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"config\.json and model\.safetensors"):
        load_backbone(pickled, "beit")
    state = load_file(tmp_path / "beit/model.safetensors")
    state.pop(next(name for name in state if "cls_token" in name))
    save_file(state, tmp_path / "beit/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="1 weights are missing"):
        load_backbone(tmp_path / "beit", "beit")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_net_comes_back_from_its_file_with_its_encoder(family: Family, tmp_path: Path) -> None:
    net = DepthAnything(TINY, encoder=_encoder(family)).eval()
    save_checkpoint(net, tmp_path / "net.safetensors", metadata={"licence": "Apache-2.0"})
    found = load_checkpoint(tmp_path / "net.safetensors")
    assert found.preset == net.preset and found.net.encoder_spec == net.encoder_spec
    x = torch.randn(1, 3, 28, 42)
    with torch.no_grad():
        assert torch.equal(found.net(x), net(x))
    twin = same_shape(net).eval()
    twin.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(twin(x), net(x))


def test_a_file_that_names_an_unknown_encoder_is_refused(tmp_path: Path) -> None:
    net = DepthAnything(TINY, encoder=_encoder("vit"))
    save_checkpoint(net, tmp_path / "net.safetensors", metadata={})
    from safetensors import safe_open

    with safe_open(tmp_path / "net.safetensors", "pt") as handle:
        metadata, state = handle.metadata(), {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    metadata["encoder"] = metadata["encoder"].replace('"vit"', '"vat"')
    save_file(state, tmp_path / "odd.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match="no encoder family named 'vat'"):
        load_checkpoint(tmp_path / "odd.safetensors")


def test_impossible_configurations_are_named() -> None:
    with pytest.raises(UsageError, match="makes no vit"):
        random_encoder("vit", TINY, {"num_attention_heads": 5})
    with pytest.raises(UsageError, match=r"four rising block numbers below 5.*"):
        random_encoder("vit", TINY, SMALLER["vit"], (0, 1, 2, 7))
    assert spread_taps(12) == PRESETS["small"].taps and spread_taps(40) == PRESETS["giant"].taps
    spec = EncoderSpec("vit", {"hidden_size": 32}, (0, 1, 2, 3))
    assert EncoderSpec.from_json(spec.to_json()) == spec and json.loads(spec.to_json())["family"] == "vit"


# SynCLR: a plain ViT with timm's names


class TimmBlock(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.qkv, self.attn.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, dim = x.shape
        q, k, v = self.attn.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        weights = ((q @ k.transpose(-2, -1)) * (dim // self.heads) ** -0.5).softmax(-1)
        x = x + self.attn.proj((weights @ v).transpose(1, 2).reshape(b, n, dim))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))


class TimmVit(nn.Module):
    """An independent plain ViT whose state has timm's names."""

    def __init__(self, dim: int = 32, depth: int = 4, heads: int = 2, side: int = 3) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, side * side + 1, dim))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, dim, 14, stride=14)
        self.blocks = nn.Sequential(*[TimmBlock(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(self.norm(x)[:, 1:])
        return outputs


def _synclr_file(net: TimmVit, path: Path) -> Path:
    state = {f"module.visual.{name}": value for name, value in net.state_dict().items()}
    state["module.visual.head.weight"] = torch.zeros(4, 32)
    state["module.logit_scale"] = torch.zeros(1)
    torch.save({"model": state, "epoch": 5}, path)
    return path


def test_a_synclr_file_gives_the_features_of_its_own_net(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = TimmVit().eval()
    encoder = load_vit_file(_synclr_file(net, tmp_path / "synclr_vit_l_14.pth"), {"num_attention_heads": 2}).eval()
    x = torch.randn(2, 3, 42, 42)
    with torch.no_grad():
        for ours, own in zip(encoder(x), net(x), strict=True):
            torch.testing.assert_close(ours, own, rtol=1e-5, atol=1e-5)
    bare = tmp_path / "bare.safetensors"
    save_file(dict(net.state_dict()), bare)
    again = load_vit_file(bare, {"num_attention_heads": 2}).eval()
    with torch.no_grad():
        assert torch.equal(again(x)[-1], encoder(x)[-1])


def test_a_vit_file_with_other_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no weight of a plain ViT"):
        vit_names({"blocks.0.ls1.gamma": torch.zeros(3)})
    net = TimmVit()
    state = {k: v for k, v in net.state_dict().items() if k != "blocks.2.mlp.fc1.bias"}
    save_file(state, tmp_path / "cut.safetensors")
    with pytest.raises(CheckpointError, match=r"layers\.2\.mlp\.fc1\.bias"):
        load_vit_file(tmp_path / "cut.safetensors", {"num_attention_heads": 2})
    save_file({"conv1.weight": torch.zeros(3, 3)}, tmp_path / "resnet.safetensors")
    with pytest.raises(CheckpointError, match="not a plain ViT"):
        load_vit_file(tmp_path / "resnet.safetensors", {})


# where such a net can go


@pytest.mark.slow
@pytest.mark.parametrize("family", ["beit", "sam", "vit", "dinov2_with_registers"])
def test_an_onnx_file_gives_the_nets_own_map(family: Family) -> None:
    import numpy as np
    import onnxruntime

    from datk.models.deployment import deployment_module
    from datk.targets.onnx.export import onnx_model

    net = DepthAnything(TINY, encoder=_encoder(family)).eval()
    model = onnx_model(deployment_module(net, (28, 42), "nhwc_uint8"), (28, 42))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).integers(0, 256, (1, 28, 42, 3), np.uint8)
    found = session.run(None, {session.get_inputs()[0].name: image})[0]
    with torch.no_grad():
        expected = deployment_module(net, (28, 42), "nhwc_uint8")(torch.from_numpy(image)).numpy()
    assert float(np.ptp(expected)) > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_target_that_cannot_take_an_encoder_says_so() -> None:
    from datk import targets

    targets.get("onnx").check_encoder("beit", "fp32")
    targets.get("tflite").check_encoder(None, "int8")
    with pytest.raises(UsageError, match="target 'tflite' in int8: the net's encoder is beit") as caught:
        targets.get("tflite").check_encoder("beit", "int8")
    assert "--target onnx" in (caught.value.hint or "")
