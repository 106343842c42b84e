"""datk predict"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Predict depth for photographs with any artifact or checkpoint.

Writes NAME.png (coloured) and NAME.npy (float32, the photograph's own size) per photograph.
"""


def command(
    images: Annotated[list[Path], typer.Argument(help="Photographs, or folders of them.")],
    model: Annotated[
        Path | None, typer.Option(help="Artifact, export folder or checkpoint. Default: newest run's student.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Of a run (--model RUN, or the newest): what it promotes for this target."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("predictions"),
    input_size: Annotated[
        str | None,
        typer.Option(
            help="518 or HxW; of an artifact one of its own. Default: a checkpoint's official rule, short side 518."
        ),
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Checkpoints that do not tell: relative or metric.")] = None,
    max_depth: Annotated[
        float | None, typer.Option(min=0.001, help="Metres, of metric weights that do not tell.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See HELP."""
    from datk.cli.console import print_json, reporter, say
    from datk.depth.preprocess import parse_size
    from datk.pipeline.models import open_model, promoted_artifact
    from datk.pipeline.predict import predict_photos
    from datk.pipeline.runs import STUDENT, newest_run

    size = parse_size(input_size) if input_size else None
    path = model
    if target is not None:
        run_dir = model or newest_run()
        path = promoted_artifact(run_dir, target, size)
        say(f"--target {target}: {path}, what {run_dir} stands behind")
    if path is None:
        path = newest_run() / STUDENT / "student.safetensors"
        say(f"no --model: {path}")
    runner = open_model(path, size, kind=kind, max_depth_m=max_depth, all_buckets=True)
    try:
        with reporter() as terminal:
            written = predict_photos(runner, images, out, progress=terminal.progress, note=terminal.note)
    finally:
        runner.close()
    if json:
        print_json(
            {
                "model": str(path),
                "judged_by": runner.label,
                "depth_kind": runner.depth_kind,
                "written": [str(w) for w in written],
            }
        )
    else:
        kind_ = runner.depth_kind
        say(f"{len(written) // 2} photographs by {runner.label}: {out} ({kind_}, larger is {kind_.larger_is})")
