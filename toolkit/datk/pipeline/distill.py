"""`datk distill`: the quickstart's route with another student, the user's images or the user's teacher."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datk.config.load import find_recipe, recipe_from_dict
from datk.config.schema import Recipe
from datk.depth.io_spec import Size
from datk.errors import UsageError
from datk.models.outside import is_outside

EMBEDDED_BUDGET_S = 600.0
MOBILE_RATE = 2e-3
"""Peak learning rate of the convolutional student, 1/step: its BatchNorm bears more than a ViT does."""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# Depth Anything V2, sections 5.2 and 7.1.
_PAPER_SCHEDULE: dict[str, Any] = {
    "steps": 480_000,
    "batch_size": 192,
    "optimiser": "adam",
    "encoder_lr": 5e-6,
    "decoder_lr": 5e-5,
}


@dataclass(frozen=True)
class DistillRequest:
    """What was typed."""

    size: str
    teacher: str | None = None
    images: Path | None = None
    encoder: Path | None = None
    """Pre-trained DINOv2 encoder of the student's size."""
    budget_s: float | None = None
    input_size: Size | None = None
    seed: int = 0


def parse_budget(text: str) -> float:
    """`90s`, `10m`, `1.5h`, `2d` in seconds. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip().lower())
    if not match or float(match[1]) <= 0:
        raise UsageError(f"--budget {text}: expected a duration such as 90s, 10m or 1.5h")
    return float(match[1]) * _UNITS[match[2]]


def distill_recipe(request: DistillRequest) -> tuple[Recipe, list[str]]:
    """The recipe a `datk distill` line means, and what it took by default, in words. Raises UsageError."""
    if request.size == "mobile" and request.encoder is not None:
        raise UsageError("--encoder is a DINOv2 file, mobile is convolutional", hint="leave --encoder out")
    base: dict[str, Any] = yaml.safe_load(find_recipe("quickstart").read_text(encoding="utf-8"))
    said: list[str] = []
    base |= {"name": f"distill-{request.size}", "targets": [], "seed": request.seed}
    base["description"] = f"student {request.size}, made by `datk distill`"
    student = dict(base["student"]) | {"size": request.size}
    budget = request.budget_s
    if request.images is None:
        said.append("no --images: the 300 photographs datk ships (calibration_data)")
        if budget is None and request.size not in ("tiny", "mobile"):
            budget = EMBEDDED_BUDGET_S
            said.append(f"no --budget: {budget / 60:g} minutes for the student")
    else:
        base["photos"] = {"images": str(request.images)}
        if budget is None:
            said.append("no --budget: the paper's schedule (480,000 steps of 192 images at 518x518)")
            student["schedule"] = dict(_PAPER_SCHEDULE)
            student["input_size"] = [518, 518]
            student["loss"] = {"top_loss_fraction": 0.1}
            if request.size == "mobile":
                student["schedule"] |= {"optimiser": "adamw", "encoder_lr": MOBILE_RATE, "decoder_lr": MOBILE_RATE}
                said.append(f"learning rate {MOBILE_RATE:g}: the paper's are for a pre-trained ViT, mobile starts anew")
    if request.teacher is None:
        said.append("no --teacher: the quickstart's own, trained here on synthetic images")
    else:
        base["checkpoints"] = {"teacher": request.teacher}
        base.pop("teacher", None)
        if is_outside(request.teacher) and request.encoder is None:
            student["feature_source"] = "off"
            said.append("no --encoder: no feature alignment, for this teacher has no encoder of ours")
    if request.size == "mobile":
        student["feature_source"] = "off"
        said.append("mobile is convolutional: no feature alignment, for it has no patch tokens")
    if student.get("init") == "teacher" and (request.teacher is not None or request.size != base["teacher"]["size"]):
        student["init"] = "scratch"
        said.append("the student starts from random weights: the teacher has another size")
    if request.encoder is not None:
        student |= {
            "init": "checkpoint",
            "checkpoint": str(request.encoder),
            "feature_source": "dinov2_checkpoint",
            "dinov2_checkpoint": str(request.encoder),
            "dinov2_size": request.size,
        }
    if budget is not None:
        student["schedule"] = dict(student.get("schedule", {})) | {"budget_s": budget}
    if request.input_size is not None:
        student["input_size"] = list(request.input_size)
    base["student"] = student
    return recipe_from_dict(base, where="datk distill"), said
