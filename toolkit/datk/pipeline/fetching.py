"""`datk data fetch`: download, check, unpack, and write down what it was."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from datk.artifact.files import write_json
from datk.data.fetch import Fetchable
from datk.data.fetch.download import Progress, download
from datk.data.fetch.unpack import unpack
from datk.errors import UsageError

RECORD = "fetched.json"


class Fetched(BaseModel):
    """fetched.json beside the data set."""

    model_config = ConfigDict(extra="forbid")

    name: str
    url: str
    revision: str
    sha256: str
    bytes: int
    licence: str
    notice: str
    fetched_at: str
    folder: str
    archive: str | None
    """The zip, when it was kept."""
    files: int


def fetch(
    item: Fetchable,
    out: Path | None = None,
    *,
    url: str | None = None,
    sha256: str | None = None,
    keep_zip: bool = False,
    unpacked: bool = True,
    progress: Progress = lambda done, total, what: None,
    **pauses: Any,
) -> tuple[Fetched, bool]:
    """(the record, whether anything had to be done). Run again after any failure: it goes on where it stopped.

    out: folder, default the set's own. url: a mirror of the same file. sha256: another digest, for another revision.
    unpacked: False leaves the zip as it is; benchmarks read from it. Raises like download and unpack.
    """
    folder = out or item.folder
    digest = (sha256 or item.sha256).lower()
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise UsageError(f"--sha256 {sha256}: expected 64 hex digits")
    there = _there(folder, item, digest, unpacked=unpacked)
    if there is not None:
        return there, False
    source = url or item.url
    archive = folder / Path(item.url).name
    got = download(source, archive, sha256=digest, progress=progress, **pauses)
    names = unpack(archive, folder, progress=progress) if unpacked else []
    record = Fetched(
        name=item.name,
        url=source,
        revision=item.revision if digest == item.sha256 else "of the user's own choice",
        sha256=digest,
        bytes=got.bytes,
        licence=item.licence,
        notice=item.notice,
        fetched_at=datetime.now(UTC).isoformat(timespec="seconds"),
        folder=str(folder),
        archive=archive.name if keep_zip or not unpacked else None,
        files=len(names) or 1,
    )
    write_json(folder / RECORD, record.model_dump())
    if unpacked and not keep_zip:
        archive.unlink()
    return record, True


def _there(folder: Path, item: Fetchable, digest: str, *, unpacked: bool) -> Fetched | None:
    """The record of an earlier fetch of the very same file, if what it made is still there."""
    try:
        record = Fetched.model_validate(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    wanted = folder / (item.holds if unpacked else Path(item.url).name)
    return record if record.sha256 == digest and wanted.is_file() else None
