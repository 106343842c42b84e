"""How a net begins: seeded random weights, another net's, or a checkpoint; and the digest that ties a run to it."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from datk.artifact.files import sha256_json
from datk.config.beyond_sections import EncoderSection
from datk.config.train_sections import OPERATIONAL
from datk.errors import CheckpointError, UsageError
from datk.models.backbone_files import load_vit_file
from datk.models.backbones import Backbone, EncoderSpec, load_backbone, random_encoder
from datk.models.depth_anything import DepthAnything, same_shape
from datk.models.presets import preset
from datk.models.weights import load_checkpoint, load_encoder


def fresh_net(size: str, *, seed: int, encoder: EncoderSection | None = None) -> DepthAnything:
    """A relative net with random weights that depend on size, encoder and seed alone; encoder.weights are read.

    Raises UsageError, CheckpointError and EnvironmentLacks as datk.models.backbones does.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DepthAnything(size, encoder=None if encoder is None else build_encoder(encoder, size))


def build_encoder(section: EncoderSection, size: str) -> Backbone:
    """An encoder of another family as a recipe names it: random, from a folder, or from a file with timm's names."""
    if section.weights is None:
        return random_encoder(section.family, preset(size), section.config, section.taps)
    if section.family == "vit" and not section.weights.is_dir():
        return load_vit_file(section.weights, section.config, section.taps)
    return load_backbone(section.weights, section.family, section.taps)


def encoder_spec(section: EncoderSection, size: str) -> EncoderSpec:
    """What the section's encoder is, without computing anything (weights are read where the section names them)."""
    with torch.device("meta") if section.weights is None else nullcontext():
        return build_encoder(section, size).spec


def begun_from(section: EncoderSection | None) -> str:
    """In words, for a net that neither a checkpoint nor the teacher gives."""
    if section is None:
        return "scratch"
    if section.weights is None:
        return f"scratch, encoder {section.family}"
    return f"{section.family} encoder from {section.weights.name}, head random"


def net_from_checkpoint(path: Path, size: str, *, seed: int) -> tuple[DepthAnything, str]:
    """The net in a checkpoint, or a fresh head on the DINOv2 encoder in it; and which of the two, in words.

    Raises CheckpointError when the file holds another size than asked for, or is unreadable.
    """
    try:
        found = load_checkpoint(path)
    except CheckpointError as whole:
        try:
            encoder = load_encoder(path, size)
        except CheckpointError:
            raise whole from None
        net = fresh_net(size, seed=seed)
        net.pretrained.load_state_dict(encoder.state_dict())
        return net, "encoder from checkpoint, head random"
    if found.preset.name != size:
        raise CheckpointError(f"{path}: holds a {found.preset.name} net, the recipe asks for {size}")
    if found.max_depth_m is not None:
        raise CheckpointError(f"{path}: a metric net; disparity training starts from a relative one or an encoder")
    return found.net, "checkpoint"


def copy_of(teacher: DepthAnything, size: str) -> DepthAnything:
    """A net of its own with the teacher's weights. Raises UsageError for another size or a metric teacher."""
    if teacher.preset.name != size:
        raise UsageError(
            f"init: teacher, but the teacher is {teacher.preset.name} and the student {size}",
            hint="use init: scratch, or the same size for both",
        )
    if teacher.max_depth_m is not None:
        raise UsageError(
            "init: teacher, but the teacher gives metric depth and the student disparity", hint="use init: scratch"
        )
    net = same_shape(teacher)
    net.load_state_dict(teacher.state_dict())
    return net


def weights_digest(net: torch.nn.Module) -> str:
    """sha256 over names, shapes and values of a net's state, in order."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def fingerprint(section: BaseModel, **inputs: Any) -> str:
    """Digest of all that determines a run's result: settings, seed, data and starting weights."""
    trained = "schedule" in type(section).model_fields
    values = section.model_dump(mode="json", exclude={"schedule": set(OPERATIONAL)} if trained else None)
    return sha256_json({"section": values, **inputs})
