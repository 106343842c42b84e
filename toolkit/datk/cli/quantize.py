"""datk quantize"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datk.cli import quantize_seeds

if TYPE_CHECKING:
    from datk.config.qat_section import QatSection
    from datk.pipeline.scheme_search import SearchRequest
    from datk.quantize.sensitivity_map import SensitivityMap

HELP = """Quantise weights to int8 with NNCF for a target, without compiling them.

`datk export --precision int8` does this as its first step. Example: datk quantize --target tflite
"""

app = typer.Typer(help=HELP, invoke_without_command=True)
app.command("seeds", help=quantize_seeds.HELP)(quantize_seeds.command)
SHOWN = 12
"""Layers told on the terminal; the file and the plot have all."""


@app.callback()
def command(
    context: typer.Context,
    target: Annotated[str | None, typer.Option(help="Target whose scheme to use.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights (.pth, .safetensors). Default: the student of the newest run.")
    ] = None,
    input_size: Annotated[str | None, typer.Option(help="Bucket, 518 or HxW, multiples of 14.")] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Photographs: a folder, or a set that was built. Default: those datk ships.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="With --search: photographs to judge on, at least 50. Default: datk's own."),
    ] = None,
    allow_few: Annotated[
        bool, typer.Option("--allow-few", help="With --images: accept fewer than 50; the verdict says so.")
    ] = False,
    search: Annotated[
        bool, typer.Option("--search", help="Try int8 schemes, each exported and judged, until one is worth shipping.")
    ] = False,
    qat: Annotated[
        bool, typer.Option("--qat", help="Train the student under the target's int8 first, 10 minutes by default.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="With --qat: so many training steps, no budget.")] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="With --search: begin no further try after e.g. 90m; the same line goes on. With --qat: time to train."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Rebuild even when nothing changed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the stages with hit or miss; run nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See HELP."""
    if context.invoked_subcommand is not None:
        return
    from dataclasses import replace

    from datk.cli.console import print_json, reporter, say
    from datk.cli.running import print_plan, raise_failures
    from datk.depth.preprocess import parse_size
    from datk.errors import UsageError
    from datk.pipeline import run as pipeline
    from datk.pipeline.distill import parse_budget
    from datk.pipeline.exporting import ExportRequest, plan_export
    from datk.pipeline.scheme_search import SearchRequest

    if target is None:
        raise UsageError("datk quantize: no target", hint="datk quantize --target tflite; see `datk targets list`")
    if search and qat:
        raise UsageError("--qat does not go with --search", hint="training is the last rung of the search")
    if steps is not None and (budget is not None or not qat):
        raise UsageError("--steps goes with --qat, in the place of --budget")
    if search and force:
        raise UsageError("--force does not go with --search", hint="delete RUN/search-TARGET.json to search anew")
    if search:
        request = SearchRequest(
            target=target,
            checkpoint=checkpoint,
            input_size=parse_size(input_size) if input_size else None,
            calibration=calibration,
            images=images,
            allow_few=allow_few,
            budget_s=parse_budget(budget) if budget else None,
        )
        _search(request, dry_run=dry_run, json=json)
        return
    if images is not None or allow_few:
        raise UsageError("--images and --allow-few go with --search: quantising alone judges nothing")
    if budget is not None and not qat:
        raise UsageError("--budget goes with --search or --qat")
    plan = plan_export(
        ExportRequest(
            targets=(target,),
            checkpoint=checkpoint,
            precisions=("int8",),
            input_sizes=(parse_size(input_size),) if input_size else (),
            calibration=calibration,
            qat=_qat_section(steps, budget) if qat else None,
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
    learnt = result.run_dir / f"38-qat-{target}" / "student.safetensors"
    if json:
        told = {"program": str(folder / "program.pt2"), "manifest": str(folder / "manifest.json")}
        print_json(told | ({"weights": str(learnt)} if qat else {}))
    else:
        if qat:
            say(f"weights that learnt under int8, in float: {learnt}")
        say(f"quantised program: {folder / 'program.pt2'}")


def _qat_section(steps: int | None, budget: str | None) -> QatSection:
    from datk.config.qat_section import QatSection
    from datk.pipeline.distill import EMBEDDED_BUDGET_S, parse_budget

    if steps is not None:
        return QatSection(steps=steps)
    return QatSection(budget_s=parse_budget(budget) if budget else EMBEDDED_BUDGET_S)


def _search(request: SearchRequest, *, dry_run: bool, json: bool) -> None:
    from datk import targets
    from datk.cli.console import print_json, print_table, reporter, say
    from datk.pipeline.scheme_search import LEARNING, gaining, mending, search

    if dry_run:
        chosen = targets.get(request.target)
        rungs = [r.name for r in (*gaining(chosen), *mending(chosen), LEARNING)]
        if json:
            print_json(rungs)
        else:
            print_table("what would be tried, until one holds", ["rung"], [[r] for r in rungs])
        return
    with reporter() as terminal:
        found = search(request, reporter=terminal)
    if json:
        told = {"run": str(found.run_dir), "chosen": found.chosen.name if found.chosen else None, "words": found.words}
        print_json(told | found.record.model_dump(mode="json"))
        return
    rows = [[t.name, t.precision, t.outcome, t.words, f"{t.seconds:.0f}"] for t in found.record.rungs]
    print_table("tried", ["rung", "precision", "outcome", "figures", "s"], rows, numeric=(4,))
    say(f"{found.chosen.name if found.chosen else 'none'}: {found.words}")
    say(f"record: {found.path}")


@app.command("sensitivity", help="Measure what int8 costs layer by layer, block by block, kind by kind.")
def sensitivity(
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights (.pth, .safetensors). Default: the student of the newest run.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Quantise activations as this target does. Default: what all targets share.")
    ] = None,
    input_size: Annotated[str | None, typer.Option(help="Bucket, 518 or HxW, multiples of 14.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of photographs. Default: those datk ships.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many photographs.")] = 4,
    out: Annotated[Path | None, typer.Option(help="Map (.json). Default: sensitivity.json beside the weights.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See help."""
    from datk.cli.console import print_json, print_table, reporter, say
    from datk.depth.preprocess import parse_size
    from datk.pipeline.sensitivity import SensitivityRequest, measure_sensitivity
    from datk.report.sensitivity_plot import write_sensitivity_plot

    size = parse_size(input_size) if input_size else None
    with reporter() as terminal:
        found, path = measure_sensitivity(
            SensitivityRequest(
                checkpoint=checkpoint, target=target, input_size=size, images=images, count=count, out=out
            ),
            reporter=terminal,
        )
    plot = path.with_suffix(".svg")
    groups = [(u.name, u.kind, u.mean_error) for level in ("block", "kind") for u in found.units if u.level == level]
    layers = [(u.name, u.kind, u.mean_error) for u in found.units if u.level == "layer"]
    write_sensitivity_plot(plot, layers, groups, f"{found.facts['preset']} at {found.facts['input_size']}")
    if json:
        print_json(found.model_dump(mode="json"))
        return
    print_table("most sensitive layers", ["layer", "kind", "1 - r alone"], _rows(found, "layer")[:SHOWN], numeric=(2,))
    print_table("kinds", ["kind", "", "1 - r, all of it"], _rows(found, "kind"), numeric=(2,))
    say(f"map: {path}  plot: {plot}  ({found.facts['seconds']:.0f} s)")


def _rows(found: SensitivityMap, level: str) -> list[list[str]]:
    return [[u.name, u.kind, f"{u.mean_error:.2e}"] for u in found.rows(level)]  # type: ignore[arg-type]
