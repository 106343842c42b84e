"""Whose features the student is aligned with, and the linear layer that bridges another width."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from datk.config.train_sections import StudentSection
from datk.errors import UsageError
from datk.models.depth_anything import DepthAnything
from datk.models.weights import load_encoder


class FeatureReference(Protocol):
    """A frozen encoder. dim: width of its tokens. name: for the manifest."""

    dim: int
    name: str

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, h, w) normalised -> (B, N, dim) patch tokens after the final LayerNorm, without a graph."""
        ...


class FrozenEncoder:
    """The patch tokens of an encoder in eval mode, held outside the student so that they never enter its file."""

    def __init__(self, encoder: nn.Module, *, dim: int, name: str) -> None:
        self.encoder, self.dim, self.name = encoder.eval(), dim, name

    def __call__(self, images: Tensor) -> Tensor:
        self.encoder.to(images.device)
        with torch.no_grad():
            tokens: Tensor = self.encoder(images)[-1]  # (B, N, dim)
        return tokens


def feature_reference(section: StudentSection, teacher: DepthAnything | None) -> FrozenEncoder | None:
    """The reference a section names, or None for `off` or a weight of 0.

    dinov2_checkpoint: a pre-trained encoder from its file. teacher_encoder: the trained teacher's. Never a random one.
    Raises CheckpointError when the file is missing or not such an encoder, UsageError without a teacher.
    """
    if section.feature_source == "off" or section.loss.feature_weight == 0:
        return None
    if section.feature_source == "dinov2_checkpoint":
        assert section.dinov2_checkpoint is not None  # the section's own check
        encoder = load_encoder(section.dinov2_checkpoint, section.dinov2_size)
        return FrozenEncoder(encoder, dim=encoder.preset.dim, name=f"dinov2 {section.dinov2_checkpoint.name}")
    if teacher is None:
        raise UsageError("feature_source: teacher_encoder, but no teacher is given", hint="feature_source: off")
    return FrozenEncoder(teacher.pretrained, dim=teacher.preset.dim, name=f"teacher encoder ({teacher.preset.name})")


class Learner(nn.Module):
    """The student and, where widths differ, the linear layer to the reference's width; only the net is kept."""

    def __init__(self, net: DepthAnything, reference_dim: int | None, *, seed: int) -> None:
        super().__init__()
        self.net = net
        bridge = reference_dim is not None and reference_dim != net.preset.dim
        self.bridge: nn.Module = nn.Identity()
        if bridge and reference_dim is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.bridge = nn.Linear(net.preset.dim, reference_dim)
