"""Encoders from files that are not transformers' own: a plain ViT in timm's naming, as SynCLR publishes it.

Source of the names: the training code of SynCLR (syn-rep-learn, SynCLR/train_pytorch/models/vision_transformer.py): its
checkpoints hold {"model": {"module.visual.<timm name>": ...}}; a pre-norm ViT with class token, joint qkv, exact GELU,
LayerNorm eps 1e-6, without LayerScale. The file is read without running anything in it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datk.errors import CheckpointError
from datk.models.backbones import Backbone, EncoderSpec, spread_taps
from datk.models.checkpoint_file import read_weights
from datk.models.presets import HEAD_DIM

VISUAL = "visual."
_PLAIN = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
_IN_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_IN_ANY_BLOCK = re.compile(r"blocks\.(\d+)\.(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.(weight|bias)")
_HEADS = ("head.", "fc_norm.", "pre_logits.")
"""Classifiers on top, which no depth net needs."""


def vit_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's names -> those of transformers' ViTModel, qkv split into its rows. Raises ValueError on unknown names."""
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in _PLAIN:
            out[_PLAIN[name]] = tensor
            continue
        match = _IN_ANY_BLOCK.fullmatch(name)
        if match is None:
            raise ValueError(f"{name}: no weight of a plain ViT")
        block, part, kind = match.groups()
        if part == "attn.qkv":
            if tensor.shape[0] % 3:
                raise ValueError(f"{name}: {tensor.shape[0]} rows are no query, key and value")
            for letter, rows in zip("qkv", tensor.chunk(3), strict=True):
                out[f"layers.{block}.attention.{letter}_proj.{kind}"] = rows
        else:
            out[f"layers.{block}.{_IN_BLOCK[part]}.{kind}"] = tensor
    return out


def load_vit_file(path: Path, overrides: dict[str, Any], taps: tuple[int, ...] | None = None) -> Backbone:
    """The plain ViT in a .pth or .safetensors file with timm's names, bare or below `visual.`, in float32.

    Width, depth, patch and position grid are the file's; heads are 64 wide unless overrides say otherwise
    ({"num_attention_heads": n}). Raises CheckpointError for anything else.
    """
    file = read_weights(path)
    tensors = file.tensors
    if any(name.startswith(VISUAL) for name in tensors):  # the text and projection parts stand beside it
        tensors = {name.removeprefix(VISUAL): value for name, value in tensors.items() if name.startswith(VISUAL)}
    tensors = {name: value for name, value in tensors.items() if not name.startswith(_HEADS)}
    try:
        state = vit_names(tensors)
        patch = state["embeddings.patch_embeddings.projection.weight"].shape
        positions = state["embeddings.position_embeddings"].shape[1] - 1
        hidden = state["layers.0.mlp.fc1.weight"].shape[0]
    except (ValueError, KeyError, IndexError) as error:
        raise CheckpointError(
            f"{path}: not a plain ViT with timm's names ({error})", hint="SynCLR's published files are such"
        ) from error
    depth = len({name.split(".")[1] for name in state if name.startswith("layers.")})
    config = {
        "hidden_size": patch[0],
        "num_hidden_layers": depth,
        "num_attention_heads": max(patch[0] // HEAD_DIM, 1),
        "intermediate_size": hidden,
        "patch_size": patch[2],
        "image_size": round(positions**0.5) * patch[2],
        "layer_norm_eps": 1e-6,
    } | overrides
    first, second, third, last = taps or spread_taps(depth)
    encoder = Backbone(EncoderSpec("vit", config, (first, second, third, last)))
    expected = {name: value.shape for name, value in encoder.model.state_dict().items()}
    wrong = sorted(set(expected) ^ set(state)) or sorted(n for n in expected if state[n].shape != expected[n])
    if wrong:
        raise CheckpointError(f"{path}: {len(wrong)} weights do not fit a plain ViT, such as {wrong[0]}")
    encoder.model.load_state_dict({name: value.to(torch.float32) for name, value in state.items()})
    return encoder
