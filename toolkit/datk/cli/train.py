"""datk train"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from datk.cli.planning import GpuCount, GpuName, Plan

app = typer.Typer(help="Training stages of a recipe by themselves.", no_args_is_help=True)
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a shipped one.")]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder. Default: runs/NAME.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan with hit or miss per stage; run nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]


def _train(
    verb: str, name: str, out: Path | None, *, plan: bool, gpu: str | None, gpus: int, dry_run: bool, json: bool
) -> None:
    """Run a recipe until a training stage, or show what its training stages take."""
    from datk.cli.planning import show_plan
    from datk.cli.running import run_and_print
    from datk.config.load import find_recipe, load_recipe
    from datk.errors import UsageError
    from datk.pipeline.execute import Selection

    recipe = load_recipe(find_recipe(name))
    if getattr(recipe, verb) is None:
        has = [v for v in ("teacher", "student", "metric") if getattr(recipe, v) is not None]
        raise UsageError(f"{recipe.name} has no {verb} to train", hint=f"it has: {', '.join(has) or 'none'}")
    if plan:
        show_plan(recipe, gpu=gpu, gpus=gpus, json=json)
        return
    run_and_print(recipe, out, Selection(until=verb), dry_run=dry_run, json=json)


def _add(verb: str, help_text: str, default: Any = ...) -> None:
    """A subcommand for one training stage. default: the recipe it takes when none is named; ... where one must be."""

    @app.command(verb, help=f"{help_text}: `datk run RECIPE --until {verb}`.")
    def command(
        recipe: RecipeName = default,
        out: Out = None,
        plan: Plan = False,
        gpu: GpuName = None,
        gpus: GpuCount = 8,
        dry_run: DryRun = False,
        json: Json = False,
    ) -> None:
        """See help."""
        _train(verb, recipe, out, plan=plan, gpu=gpu, gpus=gpus, dry_run=dry_run, json=json)


_add("teacher", "Train a recipe's teacher on labelled images", default="quickstart")
_add("student", "Train a recipe's student, and what it needs")
_add("metric", "Fine-tune to metric depth as a recipe says")


@app.command("replay", help="Run a kept batch whose loss was not finite again, image by image, and say where it broke.")
def replay(
    folder: Annotated[Path, typer.Argument(help="non-finite-step-N, as a training left it.")], json: Json = False
) -> None:
    """See help."""
    from dataclasses import asdict

    from datk.cli.console import print_json, print_table
    from datk.train.replay import replay as run_again

    found = run_again(folder)
    if json:
        print_json([asdict(image) for image in found])
        return
    rows = [[i.name, f"{i.loss:.4g}", i.source, f"{100 * i.valid_fraction:.0f} %"] for i in found]
    print_table(f"{folder.name}, float32, one image at a time", ["image", "loss", "first not finite", "valid"], rows)
