"""`--plan`: what labelling a student's photographs takes: with a large teacher, more than training the student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datk.config.schema import Recipe
from datk.data.photos import builtin_photos
from datk.data.sources import open_images
from datk.data.sources.presets import PRESETS
from datk.errors import DatkError
from datk.models.outside import is_outside
from datk.pipeline.steps import weights
from datk.train.cost import cost_of_one_image
from datk.train.projection import Gpu, Projection


@dataclass(frozen=True)
class LabellingPlan:
    """Forward passes of the teacher over the photographs; flops_per_image includes the mirrored ones."""

    images: int
    flops_per_image: float

    def projections(self, on: Sequence[tuple[Gpu, int]]) -> list[Projection]:
        """In bf16, as labelling runs on a card."""
        return [Projection(self.flops_per_image, self.images, gpu, count) for gpu, count in on]


def labelling_plan(recipe: Recipe) -> LabellingPlan | str | None:
    """The plan; why it is not counted, in words; None for a recipe whose student needs no labels."""
    if recipe.student is None or not recipe.student.uses_labels:
        return None
    if recipe.photos.labels is not None:
        return f"not counted: taken as finished from {', '.join(recipe.photos.label_folders)}"
    size = _teacher_size(recipe)
    if size is None:
        return "not counted: the teacher is none of ours, or not here"
    counts = {spec: _images(spec) for spec in recipe.photos.image_specs}
    unknown = [spec for spec, count in counts.items() if count is None]
    if unknown:
        return f"not counted: {', '.join(unknown)} cannot be read here, so the images cannot be counted"
    section = recipe.pseudo_labels
    seen = section.input_size or (section.short_side, section.short_side)
    passes = 2.0 if section.flip_average else 1 + 1 / section.flip_check_every
    return LabellingPlan(sum(filter(None, counts.values())), cost_of_one_image(size, seen).flops_forward * passes)


def labelling_rows(planned: LabellingPlan | str | None, on: Sequence[tuple[Gpu, int]]) -> list[list[str]]:
    """Table rows: stage, figure, value."""
    if planned is None:
        return []
    if isinstance(planned, str):
        return [["labels", "time", planned]]
    rows = [["labels", "images", f"{planned.images:,}"]]
    return rows + [["labels", f"on {f.gpus} {f.gpu.name}", f.arithmetic()] for f in planned.projections(on)]


def labelling_json(planned: LabellingPlan | str, on: Sequence[tuple[Gpu, int]]) -> dict[str, Any]:
    """The same for machines."""
    if isinstance(planned, str):
        return {"reason": planned}
    found = [
        {"gpu": f.gpu.name, "gpus": f.gpus, "gpu_hours": f.gpu_hours, "hours": f.hours} for f in planned.projections(on)
    ]
    return {"images": planned.images, "flops_per_image": planned.flops_per_image, "projections": found}


def _teacher_size(recipe: Recipe) -> str | None:
    checkpoint = recipe.checkpoints.teacher
    if checkpoint is None:
        own = recipe.teacher
        return own.size if own is not None and own.encoder is None else None
    if is_outside(checkpoint) or not Path(checkpoint).is_file():
        return None
    return weights.read(Path(checkpoint)).net.preset.name


def _images(spec: str) -> int | None:
    """How many images a source holds; one of the paper's sets that is not here has the paper's count."""
    if spec == "builtin":
        return len(builtin_photos("train"))
    kind, _, rest = spec.partition(":")
    if kind in PRESETS and not Path(rest).is_dir():
        return PRESETS[kind].paper_images
    try:
        return len(open_images(spec))
    except DatkError:
        return None
