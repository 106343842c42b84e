"""Recipe section of the metric fine-tune. The defaults are those of Depth Anything V2's released metric code."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from datk.config.augment_section import AugmentSection
from datk.config.section import Bucket, Fraction, NetSize, PathText, StrictSection
from datk.config.train_sections import ScheduleSection


class MetricSection(StrictSection):
    """A net that gives metres: sigmoid times max_depth_m, scale-invariant logarithmic loss (section 7.4)."""

    size: NetSize = "small"
    """Preset of the net."""
    input_size: Bucket = (518, 518)
    """(height, width) of the training crop in pixels, multiples of 14."""
    max_depth_m: float = Field(default=20.0, gt=0)
    """Upper end of the net's output and of the depth trained on, metres; 20 indoors, 80 outdoors."""
    min_depth_m: float = Field(default=0.001, ge=0)
    """Nearer pixels are not trained on, metres."""
    init: Literal["scratch", "checkpoint"] = "scratch"
    """scratch: random weights. checkpoint: the encoder in `checkpoint`, a depth net or a DINOv2 file."""
    checkpoint: PathText | None = None
    """Weights to start from; needed exactly when init is checkpoint."""
    keep_head: bool = False
    """Take over the depth head as well; the official code starts it from scratch."""
    silog_mean_weight: Fraction = 0.5
    """Weight of the squared mean in the loss; 1 ignores a common factor altogether."""
    silog_over: Literal["image", "batch"] = "image"
    """image: a root for each image, the same for any number of processes. batch: one over all valid pixels that go
    through the net at once (schedule.micro_batch, of one process), as the official code has it."""
    schedule: ScheduleSection = ScheduleSection(
        steps=200_000, batch_size=32, optimiser="adamw", weight_decay=0.01, decay="poly", precision="fp32"
    )
    augment: AugmentSection = AugmentSection()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.init == "checkpoint") != (self.checkpoint is not None):
            raise ValueError("init: checkpoint and checkpoint: FILE belong together")
        if self.keep_head and self.checkpoint is None:
            raise ValueError("keep_head: true needs a checkpoint with a head")
        if self.min_depth_m >= self.max_depth_m:
            raise ValueError(f"min_depth_m {self.min_depth_m:g} is not below max_depth_m {self.max_depth_m:g}")
        return self
