"""datk data"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datk.cli import data_calibration, data_fetch

if TYPE_CHECKING:
    from datk.pipeline.data_check import CheckReport
    from datk.pipeline.images_check import ImagesReport

app = typer.Typer(help="Data: known sets, fetch one, check a folder, render synthetic images.", no_args_is_help=True)
app.add_typer(data_calibration.app, name="calibration")
app.command("fetch", help=data_fetch.HELP)(data_fetch.command)
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]


class Renderer(StrEnum):
    """Who renders; auto = moderngl when EGL works here, else embreex."""

    auto = "auto"
    moderngl = "moderngl"
    embreex = "embreex"


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


@app.command("list", help="Data sets that datk reads, with depth and unlabelled; with a NAME, how one lies on disk.")
def list_(
    name: Annotated[str | None, typer.Argument(help="One set: layouts, encoding, traps.")] = None, json: Json = False
) -> None:
    """See help."""
    from datk.cli.console import print_json, print_table
    from datk.pipeline.data_list import known

    sets = known(name)
    if json:
        print_json([entry.model_dump() for entry in sets])
        return
    if name is not None:
        print_table(sets[0].title, ["what", ""], sets[0].rows())
        return
    rows = [[e.name, e.role, f"{e.images:,}" if e.images else "-", e.scenes, e.licence, e.home] for e in sets]
    print_table(
        "data sets (images: the paper's or the protocol's count)",
        ["name", "for", "images", "scenes", "licence", "where to get it"],
        rows,
        numeric=(2,),
    )


@app.command(
    "check", help="Is this folder what it is said to be? Exit 2 when it is not, with every file that is missing."
)
def check(
    folder: Annotated[str, typer.Argument(help="The set's folder; for tar the shards, for list the file.")],
    name: Annotated[str, typer.Option("--as", help="Which set: `datk data list`; or folder, list, tar, lmdb.")],
    split: Annotated[str | None, typer.Option(help="Only this split, e.g. val or val/indoors.")] = None,
    sample: Annotated[int, typer.Option(min=0, help="Pairs to read, spread over the set; 0: names only.")] = 100,
    every: Annotated[bool, typer.Option("--all", help="Read every file.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Contact sheet, image | depth. [default: NAME_check.jpg]")] = None,
    json: Json = False,
) -> None:
    """See help."""
    from datk.cli.console import print_json, print_table, reporter, say
    from datk.errors import DataError, UsageError
    from datk.pipeline.data_check import check as check_pairs
    from datk.pipeline.images_check import check_images, is_source

    report: CheckReport | ImagesReport
    count, picture = None if every else sample, sheet or Path(f"{name}_check.jpg")
    with reporter() as terminal:
        terminal.stage("check", f"read {name}", "running")
        if is_source(name):
            if split is not None:
                raise UsageError(f"--split {split}: {name} is a source of unlabelled images and has no splits")
            report = check_images(folder, name, sample=count, sheet=picture, progress=terminal.progress)
        else:
            report = check_pairs(
                Path(folder), name, split=split, sample=count, sheet=picture, progress=terminal.progress
            )
    if json:
        print_json(report.model_dump())
    else:
        print_table(f"{folder} as {name}", ["what", "found"], report.rows())
        for note in report.notes:
            say(f"note: {note}")
    if report.problems:
        shown = "\n".join(f"  {p}" for p in report.problems[:20])
        more = f"\n  and {len(report.problems) - 20} more: --json lists all" if len(report.problems) > 20 else ""
        raise DataError(f"{len(report.problems)} problems in {folder}\n{shown}{more}")


@app.command("pack", help="Pack images into tar shards, resized once; run again to continue, anywhere, with --part.")
def pack(
    images: Annotated[str, typer.Argument(help="DIR, list:FILE, tar:SHARDS, lmdb:DIR or PRESET:DIR.")],
    out: Annotated[Path, typer.Option(help="Folder of the shards: shard-000000.tar, its manifest beside it.")],
    short_side: Annotated[
        int, typer.Option(min=0, help="Larger images are made this small, in pixels; 0: never.")
    ] = 600,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of the JPEGs.")] = 95,
    per_shard: Annotated[int, typer.Option(min=1, help="Images a shard.")] = 5000,
    part: Annotated[str, typer.Option(help="K/N: every N-th shard from the K-th, for N machines.")] = "1/1",
    json: Json = False,
) -> None:
    """See help."""
    import re
    from dataclasses import asdict

    from datk.cli.console import print_json, reporter, say
    from datk.data.packing import Packing
    from datk.data.packing import pack as pack_images
    from datk.data.sources import open_images
    from datk.errors import UsageError

    match = re.fullmatch(r"(\d+)/(\d+)", part)
    if match is None:
        raise UsageError(f"--part {part}: expected K/N such as 2/8")
    packing = Packing(short_side=short_side or None, quality=quality, per_shard=per_shard)
    with reporter() as terminal:
        terminal.stage("pack", f"pack {images}", "running")
        done = pack_images(
            open_images(images),
            out,
            packing,
            part=(int(match[1]) - 1, int(match[2])),
            progress=terminal.progress,
        )
    if json:
        print_json({"out": str(out), **asdict(done)})
    else:
        say(f"{done.images} images in {done.shards} shards in {out}: {done.written} written, {done.kept} were there")
    if done.left_out:
        say(f"note: {done.left_out} images cannot be read; each shard's manifest names its own with the reason")
