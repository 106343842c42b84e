"""Recipe sections of the learning stages. Defaults are the paper's where the paper gives them.

Source of the defaults: Depth Anything V2 (arXiv 2406.09414) sections 5.2 and 7.1; what the paper does not
give (schedule shape, weight decay, warm-up, feature weight) is the choice of this project and says so.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from datk.config.augment_section import AugmentSection as AugmentSection
from datk.config.beyond_sections import CrossContextSection, EncoderSection, LabelledSection
from datk.config.loss_section import LossSection as LossSection
from datk.config.section import Bucket, Fraction, NetSize, PathText, StrictSection, StudentSize
from datk.depth.io_spec import PATCH


class ScheduleSection(StrictSection):
    """How long, how fast, in which arithmetic."""

    steps: int = Field(default=160_000, ge=1)
    """Optimiser steps; ignored when budget_s is set."""
    budget_s: float | None = Field(default=None, gt=0)
    """Seconds the stage may take: the step time is measured and the steps fitted to it. None: use `steps`."""
    batch_size: int = Field(default=64, ge=1)
    """Images a step, over all processes and micro-batches."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Images of one process that go through the net at once; gradients add up to batch_size. None: its whole share."""
    sharding: Literal["ddp", "fsdp"] = "ddp"
    """Under torchrun: ddp keeps the whole net in every process, fsdp a share (giant). One process: no difference."""
    activation_checkpointing: bool = False
    """Recompute each transformer block in the backward pass: much less memory, about a third more time."""
    compile: bool = False
    """torch.compile of each transformer block; pays after minutes, mostly in bf16."""
    optimiser: Literal["adam", "adamw"] = "adam"
    """The paper says Adam; adamw decouples the weight decay."""
    encoder_lr: float = Field(default=5e-6, gt=0)
    """Peak learning rate of the encoder, 1/step."""
    decoder_lr: float = Field(default=5e-5, gt=0)
    """Peak learning rate of everything else, 1/step."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decay of matrices and kernels (never of biases, norms, position embedding or tokens)."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Adam's first moment decay."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Adam's second moment decay."""
    warmup: Fraction = 0.0
    """Fraction of the steps over which the learning rate grows linearly from 0."""
    decay: Literal["constant", "linear", "cosine", "poly"] = "linear"
    """Shape after the warm-up; poly has power 0.9. All but constant end at final_lr_ratio."""
    final_lr_ratio: Fraction = 0.0
    """Learning rate at the end, as a fraction of the peak."""
    grad_clip: float | None = Field(default=None, gt=0)
    """Upper bound of the gradient's global L2 norm. None: no clipping (the paper names none)."""
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    """bf16 needs hardware that computes in it (refused otherwise); auto takes it where native; losses stay fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU when torch sees one, else the CPU."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay per step of an exponential moving average of the weights, which then is the result. None: off."""
    checkpoint_every_s: float = Field(default=300.0, gt=0)
    """Seconds between checkpoints."""
    collapse_window: int = Field(default=100, ge=2)
    """Steps with an output of (almost) no spread after which training stops with a message."""
    loader_threads: int = Field(default=1, ge=1)
    """Threads that decode and augment images ahead of the step, per process."""
    tensorboard: bool = False
    """Write the log for TensorBoard as well (needs the extra `train`)."""
    pictures_every: int = Field(default=0, ge=0)
    """Steps between validation pictures (image, target, prediction) and losses of held-out samples; 0: none."""
    held_out: int = Field(default=4, ge=1)
    """Samples kept out of training for them; used only with pictures_every."""


OPERATIONAL = frozenset(
    {
        "micro_batch",
        "sharding",
        "activation_checkpointing",
        "compile",
        "checkpoint_every_s",
        "loader_threads",
        "tensorboard",
    }
)
"""Fields of ScheduleSection that change how a training goes on, not what it computes (up to rounding): a run resumes
under other values of them, and a finished stage stays valid."""


class TeacherSection(StrictSection):
    """The teacher: trained on synthetic images with exact depth only."""

    size: NetSize = "giant"
    """Preset of the net."""
    encoder: EncoderSection | None = None
    """An encoder of another family in DINOv2's place; the preset then sizes the head (and a random encoder)."""
    input_size: Bucket = (518, 518)
    """(height, width) of the training crop in pixels, multiples of 14."""
    init: Literal["scratch", "checkpoint"] = "scratch"
    """scratch: random weights. checkpoint: `checkpoint` names a depth net or a DINOv2 encoder."""
    checkpoint: PathText | None = None
    """Weights to start from; needed exactly when init is checkpoint."""
    loss: LossSection = LossSection()
    schedule: ScheduleSection = ScheduleSection()
    augment: AugmentSection = AugmentSection()

    @model_validator(mode="after")
    def _checkpoint_named(self) -> Self:
        if (self.init == "checkpoint") != (self.checkpoint is not None):
            raise ValueError("init: checkpoint and checkpoint: FILE belong together")
        if self.encoder is not None and self.init != "scratch":
            raise ValueError("encoder goes with init: scratch; its own weights are named in encoder.weights")
        return self


class PseudoLabelSection(StrictSection):
    """How the teacher labels photographs."""

    input_size: Bucket | None = (518, 518)
    """(height, width) the teacher sees, in pixels. None: the official rule, `short_side` and the photo's own aspect."""
    short_side: int = Field(default=518, ge=PATCH, multiple_of=PATCH)
    """Short side in pixels when input_size is None."""
    batch_size: int = Field(default=8, ge=1)
    """Photographs a forward pass (those of one size are put together)."""
    flip_average: bool = False
    """Average the maps of the picture and of its mirror image."""
    format: Literal["png16", "png12"] = "png16"
    """Grey 16-bit PNG, per map from 0 = farthest to 65535 (error at most 7.6e-6 of its range) or 4095 (1.2e-4)."""
    shard_size: int = Field(default=1000, ge=1)
    """Images a shard: what a worker takes at a time, and loses when it dies."""
    flip_check_every: int = Field(default=16, ge=1)
    """Every how many images the mirror image is predicted as well, to tell how consistent the teacher is."""
    leak_distance: int = Field(default=8, ge=0, le=64)
    """Images whose 64-bit perceptual hash differs in at most so many bits from a benchmark's image are left out."""
    max_side: int | None = Field(default=None, ge=PATCH)
    """Longest side in pixels of a stored label; larger maps are shrunk by averaging (Depth Pro's have 1536)."""
    threads: int = Field(default=1, ge=1)
    """Threads of arithmetic a worker has on a CPU. They change the last bits, so they belong to the job."""


SMALLEST_MOBILE = 42
"""Pixels; below it the coarsest map of `mobile` has one value a channel, of which there is no variance."""


class StudentSection(StrictSection):
    """The student: distilled from pseudo-labelled real photographs only, unless a key says otherwise."""

    size: StudentSize = "small"
    """Preset of the net."""
    encoder: EncoderSection | None = None
    """An encoder of another family in DINOv2's place; the preset then sizes the head (and a random encoder)."""
    input_size: Bucket = (518, 518)
    """(height, width) of the training crop in pixels, multiples of 14."""
    init: Literal["scratch", "teacher", "checkpoint"] = "scratch"
    """scratch: random weights. teacher: the teacher's own (same size only). checkpoint: `checkpoint`."""
    checkpoint: PathText | None = None
    """A depth net or a DINOv2 encoder to start from; needed exactly when init is checkpoint."""
    feature_source: Literal["dinov2_checkpoint", "teacher_encoder", "off"] = "teacher_encoder"
    """Whose patch tokens the student's are aligned with; never a random encoder.

    The paper aligns with a frozen DINOv2; that needs its file, so the default is the trained teacher."""
    dinov2_checkpoint: PathText | None = None
    """Pre-trained DINOv2 encoder file; needed exactly when feature_source is dinov2_checkpoint."""
    dinov2_size: NetSize = "small"
    """Preset of that encoder."""
    learn_from: Literal["pseudo_labels", "labelled"] = "pseudo_labels"
    """labelled: the recipe's `data`, or the images rendered here, and no pseudo-label (Table 5 of the paper, upper
    rows). For both together see `labelled`."""
    seed: int | None = Field(default=None, ge=0)
    """Seed of this training alone, so that several students share data and teacher; None: the recipe's."""
    teacher_weights: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """Shares of several teachers: for each image of the stream one teacher's label is drawn (Distill-Any-Depth: 7:3).
    One share for each folder of pseudo-labels; None: there is one folder."""
    labelled: LabelledSection | None = None
    """Labelled images (`data`, or those rendered here) in every batch; None: none (the paper's choice)."""
    cross_context: CrossContextSection | None = None
    """Learn from closer looks labelled by the teacher while training; None: from stored pseudo-labels alone."""
    loss: LossSection = LossSection(top_loss_fraction=0.1)
    schedule: ScheduleSection = ScheduleSection(steps=480_000, batch_size=192)
    augment: AugmentSection = AugmentSection()

    @field_validator("feature_source", mode="before")
    @classmethod
    def _bare_off(cls, value: Any) -> Any:
        """YAML reads a bare `off` as false."""
        return "off" if value is False else value

    @property
    def uses_labels(self) -> bool:
        """Whether pseudo-labels are learnt from."""
        return self.learn_from == "pseudo_labels"

    @property
    def uses_labelled(self) -> bool:
        """Whether labelled images are learnt from."""
        return self.learn_from == "labelled" or self.labelled is not None

    @property
    def follows_teacher(self) -> bool:
        """Whether the teacher's net is needed, beside its labels."""
        features = self.feature_source == "teacher_encoder" and self.loss.feature_weight > 0
        return features or self.init == "teacher" or self.cross_context is not None

    @model_validator(mode="after")
    def _combinable(self) -> Self:
        if self.learn_from == "labelled":
            for name in ("labelled", "cross_context", "teacher_weights"):
                if getattr(self, name) is not None:
                    raise ValueError(f"learn_from: labelled leaves no pseudo-label for {name}; leave one of them out")
        if self.cross_context is not None and self.augment.cutmix > 0:
            raise ValueError("cross_context and augment.cutmix exclude each other: a pasted picture has no closer look")
        if self.encoder is not None and self.init != "scratch":
            raise ValueError("encoder goes with init: scratch; its own weights are named in encoder.weights")
        return self

    @model_validator(mode="after")
    def _convolutional(self) -> Self:
        if self.size != "mobile":
            return self
        if self.encoder is not None:
            raise ValueError("size: mobile has its own encoder; leave encoder out")
        if self.feature_source != "off":
            raise ValueError("size: mobile has no patch tokens to align with a ViT's; write feature_source: off")
        if self.schedule.activation_checkpointing:
            raise ValueError("size: mobile cannot recompute: its running statistics would count each image twice")
        if min(self.input_size) < SMALLEST_MOBILE:
            raise ValueError(f"size: mobile needs {SMALLEST_MOBILE} pixels a side to learn, for its coarsest map")
        return self

    @model_validator(mode="after")
    def _files_named(self) -> Self:
        if (self.init == "checkpoint") != (self.checkpoint is not None):
            raise ValueError("init: checkpoint and checkpoint: FILE belong together")
        if (self.feature_source == "dinov2_checkpoint") != (self.dinov2_checkpoint is not None):
            raise ValueError(
                "feature_source: dinov2_checkpoint and dinov2_checkpoint: FILE belong together; "
                "without that file use feature_source: teacher_encoder or off"
            )
        return self
