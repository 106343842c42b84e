"""Recipe sections of what a student may learn from besides its stored pseudo-labels; both are off by default."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from datk.config.augment_section import AugmentSection
from datk.config.section import Bucket, Fraction, PathText, StrictSection


class CrossContextSection(StrictSection):
    """Cross-context distillation (Distill-Any-Depth, arXiv 2502.19204): the frozen teacher labels closer looks online.

    From every training picture a part is cut at full resolution and labelled by the teacher. The student is asked for
    that part twice: from the part itself (shared context) and from its map of the whole picture (local-global).
    """

    input_size: Bucket | None = None
    """(height, width) in pixels at which teacher and student see the part; None: the student's own input_size."""
    smallest: Fraction = 0.4
    """Smallest height and width of the part, as a fraction of the picture's."""
    largest: Fraction = 0.8
    """Largest. (The paper cuts squares from 644 pixels up and sees them at 560.)"""
    shared_weight: float = Field(default=1.0, ge=0)
    """Weight of the whole dense loss on the student's own map of the part."""
    local_global_weight: float = Field(default=0.5, ge=0)
    """Weight of the scale-and-shift-invariant loss on the part of the student's map of the whole."""
    stored_weight: float = Field(default=0.0, ge=0)
    """Weight of the dense loss on the stored pseudo-label; 0 in the paper, which stores none."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if not 0 < self.smallest <= self.largest:
            raise ValueError(f"smallest {self.smallest} and largest {self.largest}: expected 0 < smallest <= largest")
        if self.shared_weight == 0 and self.local_global_weight == 0:
            raise ValueError("shared_weight and local_global_weight are both 0; leave cross_context out instead")
        return self


class EncoderSection(StrictSection):
    """An encoder of another family through transformers (the paper's pilot, Table 13)."""

    family: Literal["dinov2", "dinov2_with_registers", "dinov3_vit", "vit", "beit", "sam"]
    """Architecture. SynCLR is a vit; sam is its image encoder."""
    weights: PathText | None = None
    """A folder written by save_pretrained (safetensors); for vit also a file with timm's names, such as SynCLR's.
    None: random weights of the preset's width and depth."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Values of transformers' configuration that differ, such as {patch_size: 16}; not with a folder of weights."""
    taps: tuple[int, int, int, int] | None = None
    """0-based blocks whose output feeds the head; None: the last of each quarter."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.weights is not None and self.config and self.family != "vit":
            raise ValueError("encoder.config: a folder of weights brings its own")
        return self


class LabelledSection(StrictSection):
    """Labelled images beside the pseudo-labelled ones in every batch (Depth Anything V1 section 3.2; V2's Table 5)."""

    every: int = Field(default=3, ge=2)
    """Every how many-th image of the stream is a labelled one; 3 is V1's 1:2."""
    average: Literal["sets", "images"] = "sets"
    """sets: the labelled and the unlabelled loss count alike (V1). images: every image counts alike."""
    augment: AugmentSection = AugmentSection()
    """Of the labelled images; V1 mirrors them and no more."""
