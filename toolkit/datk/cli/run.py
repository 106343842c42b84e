"""datk run"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datk.cli.jobs import Jobs

HELP = """Run a recipe: synthetic images, teacher, pseudo-labels, student, quantise, export, validate, report.

Stages already built with the same inputs are skipped; after Ctrl-C the same command continues.

Example: datk run recipes/quickstart.yaml
"""
Recipe = Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one (datk recipes list).")]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder. Default: runs/NAME.")]
First = Annotated[
    str | None, typer.Option("--from", metavar="STAGE", help="Start here; earlier stages are taken as is.")
]
Until = Annotated[str | None, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")]
Force = Annotated[bool, typer.Option("--force", help="Rebuild the selected stages even when nothing changed.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan with hit or miss per stage; run nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]


def command(
    recipe: Recipe,
    out: Out = None,
    first: First = None,
    until: Until = None,
    force: Force = False,
    jobs: Jobs = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """See HELP."""
    from datk.cli.running import run_and_print
    from datk.config.load import find_recipe, load_recipe
    from datk.pipeline.execute import Selection

    loaded = load_recipe(find_recipe(recipe))
    run_and_print(loaded, out, Selection(first, until, force), dry_run=dry_run, json=json, jobs=jobs)
