"""datk data fetch"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Download a data set: resumed, checked against the published checksum, unpacked safely.

Run the same command again after a cut connection or a full disk. Without a name: what can be fetched.
"""


def command(
    name: Annotated[str | None, typer.Argument(help="da2k.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder. [default: ./data/NAME]")] = None,
    url: Annotated[str | None, typer.Option(help="A mirror of the same file.")] = None,
    sha256: Annotated[
        str | None, typer.Option(help="Checksum of another revision. [default: the published one]")
    ] = None,
    keep_zip: Annotated[bool, typer.Option("--keep-zip", help="Keep the archive beside the unpacked files.")] = False,
    no_unpack: Annotated[
        bool, typer.Option("--no-unpack", help="Only the archive; validate reads it as it is.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See HELP."""
    from datk.cli.console import print_json, print_table, reporter, say
    from datk.data.fetch import KNOWN, get
    from datk.pipeline.fetching import fetch

    if name is None:
        if json:
            print_json([{"name": i.name, "title": i.title, "url": i.url, "licence": i.licence} for i in KNOWN.values()])
            return
        rows = [[i.name, i.title, f"{i.about_bytes / 1e6:.0f}", i.licence] for i in KNOWN.values()]
        print_table("datk data fetch NAME", ["name", "what", "MB", "licence"], rows, numeric=(2,))
        return
    item = get(name)
    say(f"licence: {item.licence}. {item.notice}")
    with reporter() as terminal:
        terminal.stage("fetch", f"fetch {item.name}, about {item.about_bytes / 1e6:.0f} MB", "running")
        said: list[str] = []

        def progress(done: int, total: int, what: str) -> None:
            terminal.progress(done, total, what)
            if "again from" in what and (not said or said[-1] != what):
                said.append(what)
                terminal.note(what)

        record, new = fetch(
            item, out, url=url, sha256=sha256, keep_zip=keep_zip, unpacked=not no_unpack, progress=progress
        )
    if json:
        print_json(record.model_dump() | {"was_there": not new})
        return
    where = record.folder if record.archive is None or not no_unpack else f"{record.folder}/{record.archive}"
    say(f"{where}: {'sha256 checked' if new else 'was there already'}, revision {record.revision}")
    say(f"score a model on it: datk validate MODEL --bench {item.name} --data {where}")
