"""--plan: what the training stages of a recipe will take, here and on a named GPU; nothing is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datk.config.schema import Recipe

Plan = Annotated[
    bool, typer.Option("--plan", help="Parameters, memory, samples and time with the arithmetic; run nothing.")
]
GpuName = Annotated[
    str | None, typer.Option("--gpu", help="With --plan: memory and time on this card (a100, h100) instead of here.")
]
GpuCount = Annotated[int, typer.Option("--gpus", min=1, help="With --plan: how many GPUs share the batch.")]


def show_plan(recipe: Recipe, *, gpu: str | None, gpus: int, json: bool) -> None:
    """Print each training stage's plan and labelling's. Raises EnvironmentLacks (exit 4) when one does not fit.

    GPU-hours are projected to the card, or to every known one. With a GPU the memory is that of one of `gpus` processes
    and is compared with the card, not with this machine.
    """
    from datk.cli.console import print_json, print_table
    from datk.pipeline.labelling_plan import labelling_json, labelling_plan, labelling_rows
    from datk.pipeline.training_plan import check_fits, plan_json, plan_rows, training_plans
    from datk.train.projection import GPUS, gpu_named

    card = gpu_named(gpu) if gpu is not None else None
    plans = training_plans(recipe, measure=card is None, processes=gpus if card else 1, card=card)
    on = [(each, gpus) for each in ([card] if card is not None else GPUS.values())]
    labels = labelling_plan(recipe)
    if json:
        said = {} if labels is None else {"labels": labelling_json(labels, on)}
        print_json(plan_json(plans, on) | said)
    else:
        rows = plan_rows(plans, on) + labelling_rows(labels, on)
        print_table("plan", ["stage", "figure", "value"], rows)
    check_fits(plans)
