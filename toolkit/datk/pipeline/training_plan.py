"""`--plan`: what teacher, student and metric net will take, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from datk.config.schema import Recipe
from datk.config.train_sections import StudentSection, TeacherSection
from datk.pipeline.steps import weights
from datk.train.plan import Plan, plan, require_fit
from datk.train.projection import Gpu, Projection, duration

S = TypeVar("S", TeacherSection, StudentSection)


def training_plans(recipe: Recipe, *, measure: bool, processes: int = 1, card: Gpu | None = None) -> dict[str, Plan]:
    """Role -> plan, for every stage of the recipe that trains. measure: time one image where that takes seconds.

    processes: how many share a step (torchrun's, or the GPUs one would take). card: plan for it, not for this machine.
    """
    out: dict[str, Plan] = {}
    if recipe.checkpoints.teacher is None and recipe.teacher is not None:
        out["teacher"] = plan(_plannable(recipe.teacher), measure=measure, processes=processes, card=card)
    if recipe.student is not None:
        size = _teacher_size(recipe, recipe.student)
        out["student"] = plan(recipe.student, teacher_size=size, measure=measure, processes=processes, card=card)
    if recipe.metric is not None:
        out["metric"] = plan(recipe.metric, measure=measure, processes=processes, card=card)
    return out


def _teacher_size(recipe: Recipe, student: StudentSection) -> str | None:
    """Preset of the teacher that is to be trained, or of the checkpoint a student asks while it trains; else None."""
    checkpoint = recipe.checkpoints.teacher
    if checkpoint is None:
        return recipe.teacher.size if recipe.teacher is not None else None
    asked = student.cross_context is not None or student.feature_source == "teacher_encoder"
    if not asked or not Path(checkpoint).is_file():
        return None
    return weights.read(Path(checkpoint)).net.preset.name


def _plannable(section: S) -> S:
    """The section with an encoder of the preset's width and depth where its weights are not here yet."""
    encoder = section.encoder
    if encoder is None or encoder.weights is None or encoder.weights.exists():
        return section
    return section.model_copy(update={"encoder": encoder.model_copy(update={"weights": None})})


def check_fits(plans: dict[str, Plan]) -> None:
    """Raise EnvironmentLacks (exit 4) with the arithmetic for the first that does not fit."""
    for planned in plans.values():
        require_fit(planned)


def plan_rows(plans: dict[str, Plan], on: Sequence[tuple[Gpu, int]] = ()) -> list[list[str]]:
    """Table rows: stage, figure, value. on: GPUs and how many of them to project the time to."""
    rows = []
    for role, p in plans.items():
        rows += [
            [role, "parameters", f"{p.parameters:,}"],
            [role, "memory", p.arithmetic()],
            [role, "activations", p.activations_words()],
            [
                role,
                "samples",
                f"{p.steps:,} steps x {p.batch_size} images = {p.images:,} seen, in {p.precision}",
            ],
            [role, "time", f"{p.steps:,} x {p.step_s:.3g} s ({p.step_s_source}) = {duration(p.total_s)}"],
            [role, "fits", "yes" if p.fits else "NO"],
        ]
        rows += [[role, f"on {found.gpus} {found.gpu.name}", found.arithmetic()] for found in _projections(p, on)]
    return rows


def plan_json(plans: dict[str, Plan], on: Sequence[tuple[Gpu, int]] = ()) -> dict[str, Any]:
    """The same for machines; sizes in bytes, times in seconds."""
    names = (
        "parameters",
        "memory_bytes",
        "weights_bytes",
        "gradients_bytes",
        "optimiser_bytes",
        "gathered_bytes",
        "activations_kept_bytes",
        "activations_recomputed_bytes",
        "reference_bytes",
        "available_bytes",
        "processes",
        "sharding",
        "steps",
        "batch_size",
        "images",
        "flops_per_image",
        "step_s",
        "step_s_source",
        "total_s",
        "fits",
    )
    out: dict[str, Any] = {}
    for role, p in plans.items():
        out[role] = {name: getattr(p, name) for name in names}
        out[role]["projections"] = [
            {
                "gpu": f.gpu.name,
                "gpus": f.gpus,
                "precision": f.precision,
                "mfu": f.mfu,
                "gpu_hours": f.gpu_hours,
                "hours": f.hours,
            }
            for f in _projections(p, on)
        ]
    return out


def _projections(planned: Plan, on: Sequence[tuple[Gpu, int]]) -> list[Projection]:
    return [
        Projection(planned.flops_per_image, planned.images, gpu, count, precision=planned.card_precision)
        for gpu, count in on
    ]
