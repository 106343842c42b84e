"""The recipe: everything one run needs to know, frozen and strict. Unknown keys are errors."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from datk.config.data_section import SetSection, check_shares
from datk.config.metric_section import MetricSection
from datk.config.qat_section import QatSection
from datk.config.section import Bucket, size_from_value
from datk.config.train_sections import PseudoLabelSection, StudentSection, TeacherSection
from datk.depth.io_spec import Size


class Section(BaseModel):
    """Base of every section: no unknown keys, no coercion, immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


ImageSize = Annotated[Size, BeforeValidator(size_from_value)]
"""(height, width) in pixels, any positive size."""


class SyntheticSection(Section):
    """Synthetic images with exact depth, rendered here."""

    count: int = Field(default=1000, ge=8)
    """Images to render."""
    size: ImageSize = (126, 168)
    """(height, width) of the renderings, pixels."""
    renderer: Literal["auto", "moderngl", "embreex"] = "auto"
    """auto = moderngl when EGL works here, else embreex; the one used is printed and recorded."""


class PhotosSection(Section):
    """Unlabelled real photographs."""

    images: str = "builtin"
    """"builtin" = the photographs datk ships; else a folder or any source `datk pseudo-label --images` takes, or a list
    of them. The student learns from these alone unless it says otherwise."""
    labels: str | None = None
    """Folder of finished labels of these images (`datk pseudo-label`), or a list, one for each entry of `images`; None:
    the teacher labels them in this run."""
    more_labels: tuple[str, ...] = ()
    """Folders of other teachers' finished labels of the same images, for student.teacher_weights."""
    validation: str = "builtin"
    """"builtin" = the shipped validation split; else a folder disjoint from `images`."""
    validation_count: int = Field(default=64, ge=1)
    """Photographs the gates are judged on; fewer than 50 cannot pass the default gates."""

    @field_validator("images", "labels", mode="before")
    @classmethod
    def _joined(cls, value: Any) -> Any:
        several = isinstance(value, list) and value and all(isinstance(item, str) for item in value)
        return ";".join(value) if several else value

    @property
    def image_specs(self) -> tuple[str, ...]:
        """Each entry of `images`."""
        return tuple(part.strip() for part in self.images.split(";"))

    @property
    def label_folders(self) -> tuple[str, ...]:
        """Each entry of `labels`."""
        return () if self.labels is None else tuple(part.strip() for part in self.labels.split(";"))

    @model_validator(mode="after")
    def _as_many_folders_as_sources(self) -> Self:
        folders, sources = len(self.label_folders), len(self.image_specs)
        if folders and self.images != "builtin" and folders != sources:
            raise ValueError(f"photos.labels: {folders} folder(s) for {sources} entries of photos.images")
        if folders > 1 and self.more_labels:
            raise ValueError("photos.more_labels: several teachers label one source; photos.labels names several")
        return self


class CheckpointsSection(Section):
    """Weights to start from instead of training."""

    student: str | None = None
    """Checkpoint to export as it is; nothing is trained."""
    teacher: str | None = None
    """Checkpoint that labels and judges; None with a student checkpoint = that one in float32 (reference: self)."""
    kind: Literal["relative", "metric"] | None = None
    """What the student checkpoint returns, where neither config.json nor the official file name tells."""
    max_depth_m: float | None = None
    """Upper end of a metric checkpoint in metres, where the file does not tell."""
    licence: str | None = None
    """Licence of the student checkpoint, where its file names none."""


class QuantizeSection(Section):
    """NNCF post-training quantisation, batch 1, on pseudo-labelled calibration photographs."""

    images: str = "builtin"
    """"builtin" = the shipped calibration split; else a folder, or a set that `datk data calibration build` made."""
    count: int = Field(default=48, ge=1)
    """Calibration photographs; a built set is taken whole."""


class SchemeSection(Section):
    """Changes to how a target's own scheme makes int8; what is left out stays as the target has it."""

    only: Literal["convolutions", "linears"] | None = None
    """Leave the other kind of layer in float: the decoder is convolutions, the encoder linears."""
    float_layers: tuple[str, ...] = ()
    """Further layers left in float: regular expressions, searched in the module path followed by a dot."""
    smooth_quant_alpha: Annotated[float, Field(ge=0, le=1)] | Literal["off"] | None = None
    """Share of a range SmoothQuant moves from activations to weights of linears."""
    bias_correction: Literal["off", "fast", "full"] | None = None
    ranges: Literal["default", "minmax", "mean", "quantile", "histogram"] | None = None

    @field_validator("float_layers", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("float_layers")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"'{pattern}' is no regular expression: {error}") from error
        return value


class TargetSection(Section):
    """One compiler and the precisions to build with it."""

    name: str
    precisions: tuple[str, ...] | None = None
    """None = the target's own defaults."""
    input_size: Bucket | None = None
    """(height, width) of the bucket, multiples of 14; None = the size the student was trained at."""
    buckets: tuple[Bucket, ...] = ()
    """Several sizes instead of one: an artifact each, a photograph goes to the nearest aspect."""
    scheme: SchemeSection | None = None
    """Another int8 than the target's own; `datk quantize --search` finds one. None = the target's."""
    qat: QatSection | None = None
    """Fine-tune the float student under this target's int8 before it is quantised. None = post-training alone."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Checked against the target's own Options model."""

    @field_validator("precisions", "buckets", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _one_way_to_say_sizes(self) -> Self:
        if self.buckets and self.input_size is not None:
            raise ValueError("buckets and input_size: name one of the two")
        if len(set(self.buckets)) != len(self.buckets):
            raise ValueError("buckets: a size is named twice")
        return self

    def sizes(self, default: Size) -> tuple[Size, ...]:
        """Every bucket to build, in the order given."""
        return self.buckets or ((self.input_size or default),)


class ValidateSection(Section):
    """Measurements after every export, and the gates they must pass."""

    bench: str = "mini"
    """Ordinal benchmark: mini (built in), da2k, or any other file in evaluate/benchmarks."""
    data: str | None = None
    """Folder of the benchmark's data; None = its usual place."""
    max_bench_drop_pp: float = 1.0
    """Largest accepted drop against the float net, percentage points, paired."""
    latency_runs: int = Field(default=30, ge=1)
    """Timed inferences per artifact, interleaved with torch; fewer, but 10, of a net that takes over 20 s for them."""
    allow_few: bool = False
    """Accept fewer than 50 photographs; the verdict then says so."""


class Recipe(Section):
    """One run of the whole route."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the run folder: runs/NAME."""
    description: str = ""
    paper: str = ""
    """Which table or figure of Depth Anything V2 it repeats: `datk recipes list --paper`."""
    seed: int = Field(default=0, ge=0)
    synthetic: SyntheticSection = SyntheticSection()
    """Rendered here unless `data` names sets."""
    data: tuple[SetSection, ...] = ()
    """Labelled sets that the teacher, or the metric net, learns from; none: `synthetic`."""
    photos: PhotosSection = PhotosSection()
    checkpoints: CheckpointsSection = CheckpointsSection()
    teacher: TeacherSection | None = None
    """Needed where the student follows a teacher, unless checkpoints names one."""
    pseudo_labels: PseudoLabelSection = PseudoLabelSection()
    student: StudentSection | None = None
    """Needed to export anything unless checkpoints names a student, or metric describes a net."""
    metric: MetricSection | None = None
    """A net that gives metres, trained on `data`; it takes the student's place."""
    quantize: QuantizeSection = QuantizeSection()
    targets: tuple[TargetSection, ...] = ()
    validation: ValidateSection = Field(default=ValidateSection(), alias="validate")

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    @property
    def needs_teacher(self) -> bool:
        """Whether anything to be trained here follows a teacher of this run."""
        if self.checkpoints.student is not None or self.student is None:
            return False
        return self.student.follows_teacher or (self.student.uses_labels and self.photos.labels is None)

    @property
    def needs_labelled(self) -> bool:
        """Whether anything trained here learns from labelled images: sets of `data`, or rendered ones."""
        own_teacher = self.teacher is not None and self.checkpoints.teacher is None
        own_student = self.student is not None and self.student.uses_labelled
        return self.metric is not None or (self.checkpoints.student is None and (own_teacher or own_student))

    @field_validator("data", mode="before")
    @classmethod
    def _tuple_of_sets(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _shares_leave_something(self) -> Self:
        check_shares(self.data)
        return self

    @model_validator(mode="after")
    def _something_to_make(self) -> Self:
        given = self.checkpoints
        if self.metric is not None:
            others = {"teacher": self.teacher, "student": self.student, "checkpoints.student": given.student}
            beside = [name for name, value in others.items() if value is not None]
            if beside:
                raise ValueError(f"metric: takes the student's place; leave out {', '.join(beside)}")
            return self
        if self.student is None and given.student is None and (self.teacher is None or self.targets):
            raise ValueError("student: missing; describe the student, or name a checkpoint in checkpoints.student")
        if self.needs_teacher and self.teacher is None and given.teacher is None:
            raise ValueError("teacher: missing; describe the teacher, or name a checkpoint in checkpoints.teacher")
        return self
