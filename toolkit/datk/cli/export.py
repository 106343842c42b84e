"""datk export"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from datk.cli.jobs import Jobs

HELP = """Compile weights for one or more targets, measure every artifact and gate on it.

Example: datk export --checkpoint depth_anything_v2_vits.pth --target tflite --target jetson --precision fp16
"""


class Kind(StrEnum):
    """What a checkpoint returns."""

    relative = "relative"
    metric = "metric"


def command(
    target: Annotated[list[str], typer.Option(help="Target; repeat or separate by commas. See `datk targets list`.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights (.pth, .safetensors). Default: the student of the newest run.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder whose student to export.")] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="Precision; repeat or separate by commas. Default: the target's own.")
    ] = None,
    input_size: Annotated[
        str | None, typer.Option(help="Bucket, 518 (518x518) or HxW, multiples of 14; several separated by commas.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of the target, as in a recipe's targets[].options; repeat."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Folder of photographs to calibrate on, or a set of `datk data calibration build`."),
    ] = None,
    sensitivity: Annotated[
        Path | None, typer.Option(help="Map of `datk quantize sensitivity`: its worst layers stay in float in int8.")
    ] = None,
    keep_float: Annotated[int, typer.Option(min=1, help="How many layers of the --sensitivity map.")] = 4,
    teacher: Annotated[
        str | None, typer.Option(help="Checkpoint or hf:MODEL to judge against. Default: the weights themselves.")
    ] = None,
    kind: Annotated[Kind | None, typer.Option(help="What the weights return, where the file does not tell.")] = None,
    max_depth: Annotated[
        float | None, typer.Option(min=0.001, help="Metres, of metric weights that do not tell.")
    ] = None,
    bench: Annotated[str, typer.Option(help="Ordinal benchmark for the gates.")] = "mini",
    data: Annotated[Path | None, typer.Option(help="That benchmark's folder.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of photographs to judge on, at least 50. Default: those datk ships.")
    ] = None,
    allow_few: Annotated[
        bool, typer.Option("--allow-few", help="Accept fewer than 50 photographs; the verdict says so.")
    ] = False,
    commercial: Annotated[
        bool, typer.Option("--commercial", help="Refuse a licence chain that forbids commercial use, or is unknown.")
    ] = False,
    weights_licence: Annotated[
        str | None, typer.Option(help="Licence of your --checkpoint, where its file names none.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/NAME.")] = None,
    device: Annotated[
        str | None, typer.Option(help="Device of devices.yaml: a Jetson builds the engine, a Mac compares its units.")
    ] = None,
    inventory: Annotated[
        Path | None, typer.Option("--inventory", help="devices.yaml. Default: ./devices.yaml.")
    ] = None,
    jobs: Jobs = None,
    force: Annotated[bool, typer.Option("--force", help="Rebuild even when nothing changed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the stages with hit or miss; run nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See HELP."""
    from dataclasses import replace

    from datk.cli.console import reporter, say
    from datk.cli.export_device import check_device, engines_of, raise_for
    from datk.cli.running import print_plan, print_result
    from datk.depth.preprocess import parse_sizes
    from datk.pipeline import run as pipeline
    from datk.pipeline.exporting import ExportRequest, plan_export

    plan = plan_export(
        ExportRequest(
            targets=_split(target),
            checkpoint=checkpoint,
            run=run,
            precisions=_split(precision or []),
            input_sizes=parse_sizes(input_size) if input_size else (),
            calibration=calibration,
            sensitivity=sensitivity,
            keep_float=keep_float,
            teacher=teacher,
            kind=kind.value if kind else None,
            max_depth_m=max_depth,
            bench=bench,
            data=data,
            images=images,
            allow_few=allow_few,
            commercial=commercial,
            weights_licence=weights_licence,
            out=out,
            options=tuple(option or ()),
        )
    )
    for line in plan.said:
        say(line)
    there = check_device(device, inventory, _split(target), plan.run_dir, ask=not dry_run) if device else None
    selection = replace(plan.selection, force=force)
    if dry_run:
        print_plan(pipeline.plan(plan.recipe, plan.run_dir, selection), plan.run_dir, json=json)
        return
    with reporter() as terminal:
        result = pipeline.run(plan.recipe, plan.run_dir, selection, reporter=terminal, keep=plan.whole, jobs=jobs)
    engines = engines_of(result, there, force=force) if there else []
    print_result(result, json=json, engines=[e.as_json() for e in engines])
    raise_for(engines)


def _split(values: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for value in values for part in value.split(",") if part.strip()))
