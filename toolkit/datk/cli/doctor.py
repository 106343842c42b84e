"""datk doctor"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Ask what is wrong: weights.", no_args_is_help=True)


class Kind(StrEnum):
    """What a checkpoint returns."""

    relative = "relative"
    metric = "metric"


@app.callback()
def group() -> None:
    """Keeps `weights` a subcommand, so that others can join it."""


@app.command("weights", help="Check a checkpoint: shapes, hash, finite values, published golden values.")
def weights(
    file: Annotated[Path, typer.Argument(help="Checkpoint (.pth, .safetensors).")],
    image: Annotated[
        Path | None, typer.Option(help="COCO val2017 000000039769.jpg, for the published golden values.")
    ] = None,
    kind: Annotated[Kind | None, typer.Option(help="What the weights return, where the file does not tell.")] = None,
    max_depth: Annotated[
        float | None, typer.Option(min=0.001, help="Metres, of metric weights that do not tell.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See help."""
    from datk.cli.console import print_json, print_table
    from datk.errors import GateFailed
    from datk.models.golden import check_weights
    from datk.pipeline.steps.weights import KINDS

    report = check_weights(file, image=image, depth_kind=KINDS[kind.value] if kind else None, max_depth_m=max_depth)
    if json:
        print_json(report.as_json())
    else:
        print_table(f"{file.name}", ["check", "status", "detail"], report.rows())
    if not report.passed:
        raise GateFailed(f"{file}: the weights do not reproduce what was published")
