"""datk pseudo-label"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

HELP = """Label images with a teacher: disparity in 16 bits per image, in shards with a manifest each.

Run the same line again to go on, or on other machines that see the same folders to share the work: every image is
labelled once, and the bytes are the same however many work on it. Images that show a benchmark's are left out.

Example: datk pseudo-label --teacher CKPT --images DIR --out LABELS --workers 4
"""


class Format(StrEnum):
    """Codes a label's range is cut into."""

    png16 = "png16"
    png12 = "png12"


def command(
    teacher: Annotated[
        str, typer.Option(help="Checkpoint (.pth, .safetensors), hf:FOLDER_OR_ID or marigold:FOLDER_OR_ID")
    ],
    images: Annotated[str, typer.Option(help="Folder, list:FILE, tar:SHARDS, lmdb:DIR or PRESET:DIR.")],
    out: Annotated[Path, typer.Option(help="Folder for the labels.")],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes. Default: one a core on a CPU, else one a GPU.")
    ] = None,
    input_size: Annotated[
        str, typer.Option(help="What our net sees: 518, HxW (multiples of 14), or `short` for short side 518.")
    ] = "518",
    batch: Annotated[int, typer.Option(min=1, help="Images a forward pass.")] = 8,
    shard_size: Annotated[int, typer.Option(min=1, help="Images a shard: what a worker takes at a time.")] = 1000,
    flip_average: Annotated[bool, typer.Option("--flip-average", help="Average with the mirrored image.")] = False,
    format: Annotated[Format, typer.Option(help="png16: error 7.6e-6 of a map's range. png12: 1.2e-4.")] = Format.png16,
    keep_out: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of images never to label; repeat. The benchmarks at hand always are."),
    ] = None,
    leak_distance: Annotated[
        int, typer.Option(min=0, max=64, help="Differing bits of 64 up to which an image counts as a benchmark's.")
    ] = 8,
    max_side: Annotated[
        int | None, typer.Option(min=14, help="Longest side of a stored label; larger maps are shrunk.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads a worker; they belong to the job's bytes.")] = 1,
    lease: Annotated[
        float, typer.Option(min=1, help="Seconds of silence after which another machine's worker counts as gone.")
    ] = 120.0,
    ray: Annotated[
        bool, typer.Option("--ray", help="Hand the shards to a Ray cluster (extra `ray`), --workers actors of it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See HELP."""
    from dataclasses import asdict

    from datk.cli.console import print_json, reporter, say
    from datk.config.train_sections import PseudoLabelSection
    from datk.depth.preprocess import parse_size
    from datk.pipeline.labelling import LabelRequest, label, plan_labels

    section = PseudoLabelSection(
        input_size=None if input_size == "short" else parse_size(input_size),
        batch_size=batch,
        shard_size=shard_size,
        flip_average=flip_average,
        format=format.value,
        leak_distance=leak_distance,
        threads=threads,
        max_side=max_side,
    )
    request = LabelRequest(teacher, images, out, section, tuple(keep_out or ()), workers, lease, ray=ray)
    if dry_run:
        plan = plan_labels(request)
        if json:
            print_json(plan.as_json())
        else:
            for line in [*plan.said, *plan.record["teacher"]["notes"], *plan.record["keep_out"]["notes"]]:
                say(line)
            kept = ", ".join(f"{name} ({n})" for name, n in plan.record["keep_out"]["sets"].items())
            say(f"{plan.record['images']['count']} images in {plan.shards} shards, {plan.finished} finished")
            labeller = plan.record["teacher"]
            say(f"teacher {labeller['name']}, licence {labeller['licence']}; keeps out {kept}")
        return
    with reporter() as terminal:
        terminal.stage("label", f"label {images}", "running")
        summary, job = label(request, note=terminal.note, progress=terminal.progress)
    for line in summary.died:
        say(f"{line}; what it had begun was done by others")
    if json:
        print_json({**asdict(summary), "out": str(out), "licence": job.record["teacher"]["licence"]})
    else:
        say(
            f"{summary.labels} labels of {summary.images} images in {out}; "
            f"{summary.labels - summary.usable} teach nothing, {summary.quarantined} images unreadable, "
            f"{summary.kept_out} kept out: index.json names them"
        )
