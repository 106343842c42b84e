"""`datk distill --plan`: what teacher and student will take, before anything is trained."""

from __future__ import annotations

from typing import Any

from datk.config.schema import Recipe
from datk.train.plan import Plan, plan, require_fit


def training_plans(recipe: Recipe, *, measure: bool) -> dict[str, Plan]:
    """Role -> plan, for every stage of the recipe that trains. measure: time one image where that takes seconds."""
    out: dict[str, Plan] = {}
    if recipe.checkpoints.teacher is None and recipe.teacher is not None:
        out["teacher"] = plan(recipe.teacher, measure=measure)
    if recipe.student is not None:
        teacher_size = recipe.teacher.size if recipe.teacher is not None else None
        out["student"] = plan(recipe.student, teacher_size=teacher_size, measure=measure)
    return out


def check_fits(plans: dict[str, Plan]) -> None:
    """Raise EnvironmentLacks (exit 4) with the arithmetic for the first that does not fit."""
    for planned in plans.values():
        require_fit(planned)


def plan_rows(plans: dict[str, Plan]) -> list[list[str]]:
    """Table rows: stage, figure, value."""
    rows = []
    for role, p in plans.items():
        rows += [
            [role, "parameters", f"{p.parameters:,}"],
            [role, "memory", p.arithmetic()],
            [role, "steps", f"{p.steps:,} of {p.batch_size} images on {p.device} in {p.precision}"],
            [role, "time", f"{p.steps:,} x {p.step_s:.3g} s ({p.step_s_source}) = {_duration(p.total_s)}"],
            [role, "fits", "yes" if p.fits else "NO"],
        ]
    return rows


def plan_json(plans: dict[str, Plan]) -> dict[str, Any]:
    """The same for machines; sizes in bytes, times in seconds."""
    names = ("parameters", "memory_bytes", "available_bytes", "steps", "batch_size", "step_s", "total_s", "fits")
    return {role: {name: getattr(p, name) for name in names} for role, p in plans.items()}


def _duration(seconds: float) -> str:
    for limit, unit, size in ((120, "s", 1.0), (7200, "min", 60.0), (172800, "h", 3600.0)):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:,.3g} days"
