"""datk bench"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Build a benchmark like DA-2K: plan, propose, annotate, stats, export. See docs/bench.md.",
    no_args_is_help=True,
)
Folder = Annotated[Path, typer.Argument(help="The benchmark's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]


@app.callback()
def group() -> None:
    """Keeps every verb a subcommand."""


@app.command("plan", help="Start a benchmark, or say how far its images are.")
def plan(
    folder: Folder,
    name: Annotated[str | None, typer.Option(help="Name of a new benchmark. Default: the folder's.")] = None,
    images: Annotated[int, typer.Option(min=1, help="Images a new benchmark aims at.")] = 1000,
    json: Json = False,
) -> None:
    """See help."""
    from datk.bench_builder.image_list import read_image_list
    from datk.bench_builder.plan import read_plan, write_draft
    from datk.cli.console import print_json, print_table, say

    drafted = write_draft(folder, name=name or folder.resolve().name, images=images)
    for path in drafted.written:
        say(f"wrote {path}")
    for path in drafted.kept:
        say(f"kept  {path}")
    read = read_plan(folder)
    listed = read_image_list(folder, scenes=read.scenes)
    counts = listed.counts(read.targets())
    if json:
        print_json(
            {
                "name": read.name,
                "scenes": {s: vars(c) for s, c in counts.items()},
                "missing": [i.path for i in listed.missing],
                "unlisted": list(listed.unlisted),
            }
        )
        return
    rows = [
        [s, str(c.target), str(c.listed), str(c.on_disk), "people only" if read.scenes[s].hand_picked else "experts"]
        for s, c in counts.items()
    ]
    total = [str(sum(getattr(c, f) for c in counts.values())) for f in ("target", "listed", "on_disk")]
    columns = ["scene", "target", "listed", "on disk", "pairs chosen by"]
    print_table(read.name, columns, [*rows, ["all", *total, ""]], numeric=(1, 2, 3))
    if listed.unlisted:
        say(
            f"{len(listed.unlisted)} pictures on disk have no line in images.csv and are not used: {listed.unlisted[0]}"
        )
    if listed.missing:
        say(f"{len(listed.missing)} listed pictures are not on disk yet, first {listed.missing[0].path}")
