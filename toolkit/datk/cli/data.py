"""datk data"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Data: render synthetic images.", no_args_is_help=True)


class Renderer(StrEnum):
    """Who renders; auto = moderngl when EGL works here, else embreex."""

    auto = "auto"
    moderngl = "moderngl"
    embreex = "embreex"


@app.callback()
def group() -> None:
    """Keeps `synth` a subcommand, so that others can join it."""


@app.command("synth", help="Render synthetic images with exact depth. Run again to continue or to extend.")
def synth(
    out: Annotated[Path, typer.Option(help="Folder: images/, depth/ (float32 metres, inf = sky), index.json.")],
    count: Annotated[int, typer.Option(min=1, help="Images.")] = 100,
    size: Annotated[str, typer.Option(help="HxW in pixels.")] = "252x336",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the scenes.")] = 0,
    renderer: Annotated[Renderer, typer.Option(help="Who renders.")] = Renderer.auto,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See help."""
    import re

    from datk.cli.console import print_json, reporter, say
    from datk.data import synthetic
    from datk.errors import UsageError

    match = re.fullmatch(r"(\d+)(?:x(\d+))?", size.lower())
    if not match or int(match[1]) < 14 or int(match[2] or match[1]) < 14:
        raise UsageError(f"--size {size}: expected HxW in pixels such as 252x336, at least 14x14")
    shape = (int(match[1]), int(match[2] or match[1]))
    with reporter() as terminal:
        terminal.stage("synth", f"render {count} images", "running")
        summary = synthetic.generate(
            out, count=count, size=shape, seed=seed, renderer=renderer.value, progress=terminal.progress
        )
    if json:
        print_json({"out": str(out), "count": count, "renderer": summary.renderer, "reason": summary.reason})
    else:
        say(f"{count} images of {shape[0]}x{shape[1]} in {out}, rendered by {summary.renderer} ({summary.reason})")
