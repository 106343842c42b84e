"""Encoders of other families, from `transformers`, behind the interface the DPT head knows: four maps of patch tokens.

The paper's pilot (Table 13) trains the teacher on BEiT, SAM's image encoder, SynCLR (a plain ViT) and DINOv2 with and
without registers. Random weights come from a configuration, others from a local folder written by save_pretrained:
safetensors only, no code of the folder's is run, nothing is fetched. One rule keeps every net's grid and output size
alike: the picture is resized so that an encoder of patch p sees p pixels where DINOv2 sees 14.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datk.errors import CheckpointError, EnvironmentLacks, UsageError
from datk.models.presets import PATCH, Preset

Family = Literal["dinov2", "dinov2_with_registers", "dinov3_vit", "vit", "beit", "sam"]
MODEL_TYPES: dict[Family, str] = {
    "dinov2": "dinov2",
    "dinov2_with_registers": "dinov2_with_registers",
    "dinov3_vit": "dinov3_vit",
    "vit": "vit",
    "beit": "beit",
    "sam": "sam_vision_model",
}
"""Family -> transformers' model_type."""
_CLASSES = {
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
    "vit": "ViTModel",
    "beit": "BeitModel",
    "sam": "SamVisionModel",
}
_NO_POOLER = ("vit", "beit")
_PATCH = {"dinov2": 14, "dinov2_with_registers": 14, "dinov3_vit": 16, "vit": 14, "beit": 16, "sam": 16}
EXTRA = "pip install 'datk[experts]'"


@dataclass(frozen=True)
class EncoderSpec:
    """What rebuilds an encoder without its weights. config: transformers' own, as JSON values."""

    family: Family
    config: dict[str, Any]
    taps: tuple[int, int, int, int]
    """0-based blocks whose output feeds the head."""

    def to_json(self) -> str:
        return json.dumps({"family": self.family, "config": self.config, "taps": list(self.taps)}, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> EncoderSpec:
        """Raises ValueError, KeyError or TypeError for anything else than what to_json wrote."""
        value = json.loads(text)
        if value["family"] not in MODEL_TYPES or not isinstance(value["config"], dict):
            raise ValueError(f"no encoder family named {value['family']!r}")
        first, second, third, last = (int(tap) for tap in value["taps"])
        return EncoderSpec(value["family"], value["config"], (first, second, third, last))


class Backbone(nn.Module):
    """A transformers encoder. forward: (B, 3, H, W) -> four maps of patch tokens (B, h*w, dim), h = H/14, w = W/14.

    Tapped block outputs pass the encoder's final LayerNorm where it has one (SAM has none); class and register tokens
    are dropped. Weights no forward pass reads have requires_grad False.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.watch: list[Tensor] | None = None
        """While a list: what leaves each block is appended to it."""
        self.model = _model(spec)
        config = self.model.config
        self.dim, self.depth = int(config.hidden_size), int(config.num_hidden_layers)
        self.heads, self.patch = int(config.num_attention_heads), int(config.patch_size)
        _check_taps(spec.taps, self.depth)
        for name, parameter in self.model.named_parameters():
            if "mask_token" in name or ".neck." in name:
                parameter.requires_grad_(False)

    @property
    def gradient_checkpointing(self) -> bool:
        """Recompute each block in the backward pass: less memory, about a third more time."""
        return bool(self.model.is_gradient_checkpointing)

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, wanted: bool) -> None:
        if wanted:
            self.model.gradient_checkpointing_enable()
        else:
            self.model.gradient_checkpointing_disable()

    @property
    def blocks(self) -> list[nn.Module]:
        """The transformer blocks, in order."""
        return list(_layers(self.spec.family, self.model))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        grid = (x.shape[2] // PATCH, x.shape[3] // PATCH)
        if self.patch != PATCH:
            size = (grid[0] * self.patch, grid[1] * self.patch)
            x = F.interpolate(x, size=size, mode="bicubic", align_corners=False)
        outputs = self._sam(x, grid) if self.spec.family == "sam" else self._hidden_states(x)
        if self.watch is not None:
            self.watch.extend(outputs)
        taps = [self._patch_tokens(outputs[tap], grid) for tap in self.spec.taps]
        first, second, third, last = taps
        return first, second, third, last

    def _hidden_states(self, x: Tensor) -> list[Tensor]:
        """What leaves each block, (B, N, dim)."""
        options = {"interpolate_pos_encoding": True} if self.spec.family == "vit" else {}
        return list(self.model(x, output_hidden_states=True, **options).hidden_states[1:])

    def _sam(self, x: Tensor, grid: tuple[int, int]) -> list[Tensor]:
        """SAM's blocks at any grid: its own forward pass takes the size it was trained at alone."""
        encoder = self.model.vision_encoder
        tokens = encoder.patch_embed.projection(x).permute(0, 2, 3, 1)  # (B, h, w, dim)
        if encoder.pos_embed is not None:
            tokens = tokens + _resized(encoder.pos_embed, grid)
        outputs = []
        for layer in encoder.layers:
            tokens = layer(tokens)
            outputs.append(tokens)
        return outputs

    def _patch_tokens(self, output: Tensor, grid: tuple[int, int]) -> Tensor:
        if output.ndim == 4:
            return output.flatten(1, 2)  # (B, h*w, dim)
        norm = self.model.norm if self.spec.family == "dinov3_vit" else self.model.layernorm
        return cast(Tensor, norm(output))[:, output.shape[1] - grid[0] * grid[1] :]


def random_encoder(
    family: Family, preset: Preset, overrides: dict[str, Any] | None = None, taps: tuple[int, ...] | None = None
) -> Backbone:
    """An encoder of the preset's width and depth with random weights (torch's global generator).

    overrides: values of transformers' configuration, such as {"patch_size": 16}. taps: blocks that feed the head, None:
    the preset's, or spread alike over another depth. Raises UsageError for values that make no encoder,
    EnvironmentLacks without transformers.
    """
    config = _preset_config(family, preset) | (overrides or {})
    depth = config["num_hidden_layers"]
    chosen = taps or (preset.taps if depth == preset.depth else spread_taps(depth))
    return Backbone(EncoderSpec(family, config, _four(chosen)))


def load_backbone(folder: Path, family: Family, taps: tuple[int, ...] | None = None) -> Backbone:
    """The encoder in a folder that transformers' save_pretrained wrote, in float32.

    Raises CheckpointError when the folder is absent, holds no safetensors, another family, or weights that do not fit.
    """
    transformers = _transformers()
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not (folder / "config.json").is_file() or not files:
        raise CheckpointError(
            f"{folder}: expected a folder with config.json and model.safetensors",
            hint="save it where you trust it: model.save_pretrained(FOLDER, safe_serialization=True)",
        )
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = found.get("vision_config", found) if family == "sam" else found
        kind = config.get("model_type")
        if kind != MODEL_TYPES[family]:
            raise CheckpointError(f"{folder}: a {kind} model, the recipe asks for {family} ({MODEL_TYPES[family]})")
        options = {"add_pooling_layer": False} if family in _NO_POOLER else {}
        model, report = getattr(transformers, _CLASSES[family]).from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            dtype=torch.float32,
            **options,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: cannot be read ({str(error).splitlines()[0][:200]})") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(f"{folder}: {len(missing)} weights are missing, such as {missing[0]}")
    spec = EncoderSpec(family, _plain(model.config), _four(taps or spread_taps(model.config.num_hidden_layers)))
    encoder = Backbone(spec)
    encoder.model.load_state_dict(model.state_dict())
    return encoder


def spread_taps(depth: int) -> tuple[int, int, int, int]:
    """The last block of each quarter, as for S, B and G in the paper (its L taps block 4 where this says 5)."""
    return _four([max(depth * quarter // 4 - 1, 0) for quarter in (1, 2, 3, 4)])


def _four(taps: Any) -> tuple[int, int, int, int]:
    if len(taps) != 4:
        raise UsageError(f"encoder.taps {list(taps)}: the head takes four levels")
    return int(taps[0]), int(taps[1]), int(taps[2]), int(taps[3])


def _check_taps(taps: tuple[int, int, int, int], depth: int) -> None:
    if list(taps) != sorted(set(taps)) or taps[0] < 0 or taps[-1] >= depth:
        raise UsageError(
            f"encoder.taps {list(taps)}: expected four rising block numbers below {depth}",
            hint=f"such as {list(spread_taps(depth))}",
        )


def _preset_config(family: Family, preset: Preset) -> dict[str, Any]:
    """transformers' configuration of a family at a preset's width, depth and heads, as its authors trained it."""
    common = {
        "hidden_size": preset.dim,
        "num_hidden_layers": preset.depth,
        "num_attention_heads": preset.heads,
        "patch_size": _PATCH[family],
    }
    if family in ("dinov2", "dinov2_with_registers"):
        return common | {"image_size": 518, "use_swiglu_ffn": preset.ffn == "swiglu", "layer_norm_eps": 1e-6}
    if family == "vit":
        return common | {"image_size": 224, "intermediate_size": 4 * preset.dim, "layer_norm_eps": 1e-6}
    if family == "dinov3_vit":
        return common | {"intermediate_size": 4 * preset.dim}
    if family == "beit":
        return common | {
            "image_size": 512,
            "intermediate_size": 4 * preset.dim,
            "layer_scale_init_value": 1e-5,
            "use_relative_position_bias": True,
            "use_absolute_position_embeddings": False,
        }
    seeing_all = list(spread_taps(preset.depth))
    return common | {
        "image_size": 1024,
        "mlp_dim": 4 * preset.dim,
        "global_attn_indexes": seeing_all,
        "window_size": 14,
    }


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise EnvironmentLacks("an encoder of another family needs transformers", hint=EXTRA) from error
    return transformers


def _model(spec: EncoderSpec) -> Any:
    """The bare model of a spec, random weights, without dropout: eager attention, which every exporter can follow."""
    transformers = _transformers()
    kind = MODEL_TYPES[spec.family]
    try:
        config = transformers.AutoConfig.for_model(kind, **{k: v for k, v in spec.config.items() if k != "model_type"})
        options = {"add_pooling_layer": False} if spec.family in _NO_POOLER else {}
        config._attn_implementation = "eager" if spec.family == "sam" else "sdpa"
        if config.hidden_size % config.num_attention_heads:
            raise ValueError(f"{config.num_attention_heads} heads do not divide a width of {config.hidden_size}")
        return getattr(transformers, _CLASSES[spec.family])(config, **options)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, ZeroDivisionError) as error:
        raise UsageError(f"encoder.config makes no {spec.family}: {str(error).splitlines()[0][:200]}") from error


def _plain(config: Any) -> dict[str, Any]:
    """A configuration's values that differ from the defaults, as JSON."""
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    dropped = ("architectures", "transformers_version", "dtype", "torch_dtype", "_name_or_path", "model_type")
    return {name: value for name, value in values.items() if name not in dropped}


def _layers(family: Family, model: Any) -> nn.ModuleList:
    if family == "sam":
        return cast(nn.ModuleList, model.vision_encoder.layers)
    holder = model if hasattr(model, "layers") else model.encoder if hasattr(model, "encoder") else model.model
    return cast(nn.ModuleList, holder.layers if hasattr(holder, "layers") else holder.layer)


def _resized(embedding: Tensor, grid: tuple[int, int]) -> Tensor:
    """(1, S, S, C) position embedding -> (1, h, w, C), bicubic; as it is at its own grid."""
    if (embedding.shape[1], embedding.shape[2]) == grid:
        return embedding
    resized = F.interpolate(embedding.permute(0, 3, 1, 2), size=grid, mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1)
