"""datk data calibration"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Calibration sets: photographs that int8 ranges are set on.", no_args_is_help=True)
BUILD = """Choose photographs to calibrate on: labelled by a teacher, of all kinds of scenes, apart from benchmarks.

Run the same line again to go on. The folder is what `datk export --calibration` takes, without labelling again.

Example: datk data calibration build --images DIR --count 300 --teacher CKPT --out DIR
"""


@app.command("build", help=BUILD)
def build(
    images: Annotated[str, typer.Option(help="Folder of photographs. [default: those datk ships]")] = "builtin",
    count: Annotated[int, typer.Option(min=1, help="Photographs in the set.")] = 300,
    out: Annotated[Path, typer.Option(help="Folder for the set.")] = Path("calibration"),
    teacher: Annotated[
        str | None, typer.Option(help="Checkpoint, hf:MODEL or marigold:MODEL. [default: the newest run's]")
    ] = None,
    input_size: Annotated[
        str | None, typer.Option(help="Bucket of the export, 518 or HxW. [default: what the teacher was trained at]")
    ] = None,
    kinds: Annotated[int, typer.Option(min=1, help="Kinds of scenes to tell apart.")] = 12,
    candidates: Annotated[
        int | None, typer.Option(min=1, help="Photographs to label and choose from. [default: 3 x COUNT]")
    ] = None,
    keep_out: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of images never to take; repeat. Benchmarks at hand never are."),
    ] = None,
    leak_distance: Annotated[
        int, typer.Option(min=0, max=64, help="Differing bits of 64 up to which an image counts as a benchmark's.")
    ] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See BUILD."""
    from datk.cli.console import print_json, print_table, reporter, say
    from datk.depth.preprocess import parse_size
    from datk.pipeline.calibration_set import BuildRequest, plan_build
    from datk.pipeline.calibration_set import build as build_set

    request = BuildRequest(
        images=images,
        out=out,
        count=count,
        teacher=teacher,
        input_size=parse_size(input_size) if input_size else None,
        kinds=kinds,
        candidates=candidates,
        keep_out=tuple(keep_out or ()),
        leak_distance=leak_distance,
        seed=seed,
    )
    if dry_run:
        plan = plan_build(request)
        value = plan.as_json()
        if json:
            print_json(value)
            return
        for line in [*plan.said, *value["notes"]]:
            say(line)
        kept = ", ".join(f"{name} ({n})" for name, n in plan.keep_out.sets.items())
        say(f"{plan.found} photographs, {value['candidates']} to label by {value['teacher']['name']}; keeps out {kept}")
        say(f"{out}: {plan.state}")
        return
    with reporter() as terminal:
        terminal.stage("calibration", f"calibration set of {images}", "running")
        found, new = build_set(request, reporter=terminal)
    if json:
        print_json({**found.model_dump(mode="json"), "out": str(out), "was_there": not new})
        return
    rows = [[k.name, str(k.candidates), str(k.taken)] for k in found.kinds]
    print_table("kinds of scenes", ["kind", "usable", "taken"], rows, numeric=(1, 2))
    say(f"{out}: {found.describe()}{'' if new else ', was there already'}; {len(found.left_out)} candidates left out")
    say(f"use it: datk export --calibration {out}")
