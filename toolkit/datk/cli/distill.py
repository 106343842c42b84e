"""datk distill"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from datk.cli.jobs import Jobs
from datk.cli.planning import GpuCount, GpuName, Plan

HELP = """Distil a student from a teacher's pseudo-labels on real photographs.

Without --images and --teacher it uses what datk ships: photographs, and a teacher trained here on
synthetic images. Example: datk distill --size small --budget 10m
"""


class Size(StrEnum):
    """Students datk has."""

    mobile = "mobile"
    tiny = "tiny"
    small = "small"
    base = "base"
    large = "large"
    giant = "giant"


def command(
    size: Annotated[Size, typer.Option(help="Student.")] = Size.small,
    teacher: Annotated[
        str | None,
        typer.Option(help="Teacher: checkpoint (.pth, .safetensors), hf:FOLDER_OR_ID or marigold:..."),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of unlabelled photographs.")] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="Pre-trained DINOv2 encoder of the student's size: start and feature source.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time for the student, e.g. 10m: the step time is measured, the schedule fitted.")
    ] = None,
    input_size: Annotated[str | None, typer.Option(help="Training crop, 518 or HxW, multiples of 14.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    plan: Plan = False,
    gpu: GpuName = None,
    gpus: GpuCount = 8,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/distill-SIZE.")] = None,
    jobs: Jobs = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the stages with hit or miss; run nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See HELP."""
    from datk.cli.console import say
    from datk.cli.launch import processes
    from datk.cli.planning import show_plan
    from datk.cli.running import run_and_print
    from datk.depth.preprocess import parse_size
    from datk.pipeline.distill import DistillRequest, distill_recipe, parse_budget
    from datk.pipeline.execute import Selection
    from datk.pipeline.training_plan import check_fits, training_plans

    recipe, said = distill_recipe(
        DistillRequest(
            size=size.value,
            teacher=teacher,
            images=images,
            encoder=encoder,
            budget_s=parse_budget(budget) if budget else None,
            input_size=parse_size(input_size) if input_size else None,
            seed=seed,
        )
    )
    for line in said:
        say(line)
    if plan:
        show_plan(recipe, gpu=gpu, gpus=gpus, json=json)
        return
    check_fits(training_plans(recipe, measure=False, processes=processes()))
    run_and_print(recipe, out, Selection(), dry_run=dry_run, json=json, jobs=jobs)
