"""--jobs: how many stages of targets are built at a time."""

from __future__ import annotations

from typing import Annotated

import typer

Jobs = Annotated[
    int | None,
    typer.Option("--jobs", min=1, help="Quantise and compile this many at a time. Default: as cores and memory allow."),
]
