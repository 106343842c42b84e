"""From the names each publisher uses to the official ones.

Sources: the official depth_anything_v2 and dinov2 modules; transformers' convert_depth_anything_to_hf.py;
Distill-Any-Depth's modeling/archs/dam/dam.py (its large net says `backbone`, with one chunk of blocks).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

SourceFormat = Literal["official", "huggingface", "distill-any-depth", "dinov2", "huggingface-dinov2"]
ENCODER_ONLY: tuple[SourceFormat, ...] = ("dinov2", "huggingface-dinov2")
ENCODER = "pretrained."

_LAYER = [
    (r"norm([12])\.", r"norm\1."),
    (r"layer_scale([12])\.lambda1", r"ls\1.gamma"),
    (r"attention\.(?:output\.dense|o_proj)\.", "attn.proj."),
    (r"mlp\.(?:weights_in)\.", "mlp.w12."),
    (r"mlp\.(?:weights_out|down_proj)\.", "mlp.w3."),
    (r"mlp\.(fc[12])\.", r"mlp.\1."),
]
"""Inside one Hugging Face encoder layer; both spellings transformers has used."""
_HUGGINGFACE = [
    (r"backbone\.embeddings\.(cls_token|mask_token)", rf"{ENCODER}\1"),
    (r"backbone\.embeddings\.position_embeddings", f"{ENCODER}pos_embed"),
    (r"backbone\.embeddings\.patch_embeddings\.projection\.", f"{ENCODER}patch_embed.proj."),
    (r"backbone\.layernorm\.", f"{ENCODER}norm."),
    (r"neck\.reassemble_stage\.layers\.(\d)\.projection\.", r"depth_head.projects.\1."),
    (r"neck\.reassemble_stage\.layers\.(\d)\.resize\.", r"depth_head.resize_layers.\1."),
    (r"head\.conv1\.", "depth_head.scratch.output_conv1."),
    (r"head\.conv2\.", "depth_head.scratch.output_conv2.0."),
    (r"head\.conv3\.", "depth_head.scratch.output_conv2.2."),
]
_FUSION = {
    "projection": "out_conv",
    "residual_layer1.convolution1": "resConfUnit1.conv1",
    "residual_layer1.convolution2": "resConfUnit1.conv2",
    "residual_layer2.convolution1": "resConfUnit2.conv1",
    "residual_layer2.convolution2": "resConfUnit2.conv2",
}
_JOINED = {
    "attention.attention.query": ("attn.qkv", 0),
    "attention.attention.key": ("attn.qkv", 1),
    "attention.attention.value": ("attn.qkv", 2),
    "attention.q_proj": ("attn.qkv", 0),
    "attention.k_proj": ("attn.qkv", 1),
    "attention.v_proj": ("attn.qkv", 2),
    "mlp.gate_proj": ("mlp.w12", 0),
    "mlp.up_proj": ("mlp.w12", 1),
}
"""Hugging Face's separate matrices -> the official joined one and the place of its rows in it."""
_PARTS = {"attn.qkv": 3, "mlp.w12": 2}


def recognise(names: set[str]) -> SourceFormat | None:
    """Whose naming this is, or None."""
    if any(n.startswith(ENCODER) for n in names):
        return "official"
    if "backbone.embeddings.cls_token" in names:
        return "huggingface"
    if any(n.startswith("backbone.") for n in names) and any(n.startswith("depth_head.") for n in names):
        return "distill-any-depth"
    if "embeddings.cls_token" in names:
        return "huggingface-dinov2"
    if "cls_token" in names and any(n.startswith("blocks.") for n in names):
        return "dinov2"
    return None


def official_names(tensors: dict[str, Tensor], source: SourceFormat) -> dict[str, Tensor]:
    """The same tensors under official names; a name that fits no rule keeps its own and is reported later."""
    if source == "official":
        return _renamed(tensors, _unchunked)
    if source == "distill-any-depth":
        return _renamed(tensors, lambda name: _unchunked(re.sub(r"^backbone\.", ENCODER, name)))
    if source == "dinov2":
        return _renamed(tensors, lambda name: _unchunked(ENCODER + name))
    if source == "huggingface-dinov2":
        tensors = {f"backbone.{k}": v for k, v in tensors.items()}
    return _from_huggingface(tensors)


def _renamed(tensors: dict[str, Tensor], rename: Callable[[str], str]) -> dict[str, Tensor]:
    """Apply rename; of two names that become one, the later keeps its own, so that it is reported."""
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        new = rename(name)
        out[name if new in out else new] = tensor
    return out


def _unchunked(name: str) -> str:
    """blocks.CHUNK.INDEX.… (nets built in chunks) -> blocks.INDEX.…"""
    return re.sub(r"(blocks)\.\d+\.(\d+\.)", r"\1.\2", name)


def _from_huggingface(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    out = _renamed({k: v for k, v in tensors.items() if _joined_name(k) is None}, _plain_name)
    parts: dict[str, dict[int, tuple[str, Tensor]]] = {}
    for name, tensor in tensors.items():
        if joined := _joined_name(name):
            parts.setdefault(joined[0], {})[joined[1]] = (name, tensor)
    for target, found in parts.items():
        expected = _PARTS[".".join(target.split(".")[3:5])]
        shapes = {tuple(t.shape) for _, t in found.values()}
        if len(found) == expected and len(shapes) == 1:
            out[target] = torch.cat([found[i][1] for i in range(expected)])
        else:  # incomplete: keep the file's own names, so that the complaint can name them
            out |= dict(found.values())
    return out


def _joined_name(name: str) -> tuple[str, int] | None:
    match = re.fullmatch(r"backbone\.encoder\.layer\.(\d+)\.(.+)\.(weight|bias)", name)
    if match is None or match[2] not in _JOINED:
        return None
    target, index = _JOINED[match[2]]
    return f"{ENCODER}blocks.{match[1]}.{target}.{match[3]}", index


def _plain_name(name: str) -> str:
    if match := re.fullmatch(r"backbone\.encoder\.layer\.(\d+)\.(.+)", name):
        for pattern, replacement in _LAYER:
            if re.match(pattern, match[2]):
                return f"{ENCODER}blocks.{match[1]}." + re.sub(pattern, replacement, match[2], count=1)
    if match := re.fullmatch(r"neck\.convs\.([0-3])\.weight", name):
        return f"depth_head.scratch.layer{int(match[1]) + 1}_rn.weight"
    match = re.fullmatch(r"neck\.fusion_stage\.layers\.([0-3])\.(.+)\.(weight|bias)", name)
    if match and match[2] in _FUSION:  # Hugging Face counts from the coarsest level, the official code from the finest
        return f"depth_head.scratch.refinenet{4 - int(match[1])}.{_FUSION[match[2]]}.{match[3]}"
    for pattern, replacement in _HUGGINGFACE:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name, count=1)
    return name
