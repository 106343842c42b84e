"""datk quantize"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Quantise weights to int8 with NNCF for a target, without compiling them.

`datk export --precision int8` does this as its first step. Example: datk quantize --target tflite
"""


def command(
    target: Annotated[str, typer.Option(help="Target whose scheme to use.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights (.pth, .safetensors). Default: the student of the newest run.")
    ] = None,
    input_size: Annotated[str | None, typer.Option(help="Bucket, 518 or HxW, multiples of 14.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="Folder of photographs. Default: those datk ships.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Rebuild even when nothing changed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the stages with hit or miss; run nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See HELP."""
    from dataclasses import replace

    from datk.cli.console import print_json, reporter, say
    from datk.cli.running import print_plan, raise_failures
    from datk.depth.preprocess import parse_size
    from datk.pipeline import run as pipeline
    from datk.pipeline.exporting import ExportRequest, plan_export

    plan = plan_export(
        ExportRequest(
            targets=(target,),
            checkpoint=checkpoint,
            precisions=("int8",),
            input_sizes=(parse_size(input_size),) if input_size else (),
            calibration=calibration,
        )
    )
    for line in plan.said:
        say(line)
    selection = replace(plan.selection, force=force, until="quantize")
    if dry_run:
        print_plan(pipeline.plan(plan.recipe, plan.run_dir, selection), plan.run_dir, json=json)
        return
    with reporter() as terminal:
        result = pipeline.run(plan.recipe, plan.run_dir, selection, reporter=terminal, keep=plan.whole)
    raise_failures(result)
    folder = result.run_dir / f"40-quantize-{target}"
    if json:
        print_json({"program": str(folder / "program.pt2"), "manifest": str(folder / "manifest.json")})
    else:
        say(f"quantised program: {folder / 'program.pt2'}")
