"""datk quantize seeds"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Quantise on several draws of calibration photographs: how much does the result depend on the draw?

Every seed's int8 program is held against the float net on photographs that no seed calibrated on. Run the same line
again to go on; more --seeds add to the same file. Of a run's student, the run's report says what came out.

Example: datk quantize seeds --target tflite --seeds 3 --calibration SET
"""


def command(
    target: Annotated[str, typer.Option(help="Target whose scheme to use.")],
    seeds: Annotated[int, typer.Option(min=3, help="Seeds 0, 1, ...: at least three.")] = 3,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights (.pth, .safetensors). Default: the student of the newest run.")
    ] = None,
    input_size: Annotated[str | None, typer.Option(help="Bucket, 518 or HxW, multiples of 14.")] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Folder, or set that was built, to draw from. Default: those datk ships.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Photographs a draw. [default: half of what there is, at most 100]")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of photographs to judge on. Default: those datk ships.")
    ] = None,
    photos: Annotated[int, typer.Option(min=1, help="How many photographs to judge on.")] = 50,
    out: Annotated[
        Path | None,
        typer.Option(help="Figures (.json). Default: seeds-TARGET-HxW.json beside the weights, where reports find it."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See HELP."""
    from datk.cli.console import print_json, print_table, reporter, say
    from datk.depth.preprocess import parse_size
    from datk.evaluate.gates import default_gates
    from datk.pipeline.calibration_seeds import SeedsRequest, measure_seeds
    from datk.pipeline.runs import run_of
    from datk.report.build import build_report

    request = SeedsRequest(
        target=target,
        seeds=seeds,
        checkpoint=checkpoint,
        input_size=parse_size(input_size) if input_size else None,
        calibration=calibration,
        count=count,
        images=images,
        photos=photos,
        out=out,
    )
    with reporter() as terminal:
        terminal.stage("seeds", f"{seeds} draws for {target}", "running")
        found, path = measure_seeds(request, reporter=terminal)
    summary = found.summary(default_gates("int8"))
    run_dir = run_of(path)
    if run_dir is not None and (run_dir / "report.html").is_file():
        build_report(run_dir)
    if json:
        print_json({**found.model_dump(mode="json"), "summary": summary, "out": str(path)})
        return
    names = [str(photo["name"]) for photo in found.facts["held_out"]]
    rows = [
        [
            str(r.seed),
            f"{r.median:.6f}",
            f"{r.worst:.6f}",
            names[r.values.index(r.worst)],
            f"{r.mean_error:.2e}",
            f"{r.quantise_s:.0f} s",
        ]
        for r in found.seeds
    ]
    rows.append(["spread", f"{summary['spread_median']:.1e}", f"{summary['spread_worst']:.1e}", "", "", ""])
    columns = ["seed", "r median", "r worst", "on", "mean 1 - r", "quantised in"]
    print_table(f"int8 for {target}, {found.facts['drawn']} photographs a draw", columns, rows, numeric=(1, 2, 4, 5))
    say(summary["sentence"])
    share = f"{100 * summary['overlap']:.0f} % of two draws are the same photographs"
    say(f"mean 1 - r differs by {100 * summary['spread_of_loss']:.0f} % of itself; {share}; figures: {path}")
