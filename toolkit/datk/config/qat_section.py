"""Recipe section of quantisation-aware training. Every default is of this project: the paper has no such stage."""

from __future__ import annotations

from pydantic import Field

from datk.config.augment_section import AugmentSection
from datk.config.loss_section import LossSection
from datk.config.section import StrictSection
from datk.config.train_sections import ScheduleSection


class QatSection(StrictSection):
    """A short fine-tune of the int8 net against the float one; it starts where post-training quantisation ends."""

    steps: int = Field(default=200, ge=1)
    """Optimiser steps; ignored when budget_s is set."""
    budget_s: float | None = Field(default=None, gt=0)
    """Seconds the stage may take: the step time is measured and the steps fitted to it. None: use `steps`."""
    batch_size: int = Field(default=4, ge=1)
    """Images a step; they go through the program one at a time, as the program has batch 1."""
    learning_rate: float = Field(default=3e-5, gt=0)
    """Peak learning rate of all weights, 1/step."""
    loss: LossSection = LossSection(feature_margin=1.0)
    """SSI, gradient and feature terms. feature_margin 1 leaves no token out: all of them are close from the start."""
    augment: AugmentSection = AugmentSection(min_crop=0.7)
    checkpoint_every_s: float = Field(default=60.0, gt=0)
    """Seconds between checkpoints."""

    @property
    def schedule(self) -> ScheduleSection:
        """The training loop's own terms. float32: in bf16 the arithmetic is coarser than the grids."""
        return ScheduleSection(
            steps=self.steps,
            budget_s=self.budget_s,
            batch_size=self.batch_size,
            micro_batch=1,
            encoder_lr=self.learning_rate,
            decoder_lr=self.learning_rate,
            warmup=0.05,
            decay="cosine",
            grad_clip=1.0,
            precision="fp32",
            checkpoint_every_s=self.checkpoint_every_s,
        )
