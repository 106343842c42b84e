"""Unpack a zip archive that may be hostile: nothing outside the folder, nothing half there."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from datk.errors import DataError, EnvironmentLacks

MAX_RATIO = 200
"""Unpacked over packed size of a member above 1 MB: photographs and JSON stay far below, bombs far above."""

Progress = Callable[[int, int, str], None]


def unpack(archive: Path, folder: Path, *, progress: Progress = lambda done, total, what: None) -> list[str]:
    """Unpack every file of a zip into folder; returns their names.

    Members are written to a hidden folder beside and moved in together at the end, each top-level name by one rename.
    Raises DataError, before anything is written, for a name that leads outside (absolute, "..", drive letters,
    backslashes), links, two members of one name, a suspicious packing ratio, or something of that name already in
    `folder`; and for a damaged member. EnvironmentLacks when the disk is full. In every case `folder` stays as it was.
    """
    with _opened(archive) as opened:
        members = _checked(opened, archive)
        tops = sorted({PurePosixPath(m.filename).parts[0] for m in members})
        there = [name for name in tops if (folder / name).exists()]
        if there:
            raise DataError(
                f"{folder / there[0]}: there already", hint="move it away, or name another place with --out"
            )
        folder.mkdir(parents=True, exist_ok=True)
        needed = sum(m.file_size for m in members)
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise _full(folder, needed, free)
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder) as made:
            for done, member in enumerate(members, start=1):
                _extract(opened, member, Path(made) / member.filename, archive, folder, needed)
                progress(done, len(members), "unpack")
            for name in tops:
                (Path(made) / name).replace(folder / name)
    return [m.filename for m in members]


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{archive}: not a readable zip archive ({error})", hint="fetch it again") from error


def _checked(opened: zipfile.ZipFile, archive: Path) -> list[zipfile.ZipInfo]:
    files = [m for m in opened.infolist() if not m.is_dir()]
    if not files:
        raise DataError(f"{archive}: holds no file")
    seen: set[str] = set()
    for member in opened.infolist():
        name = member.filename
        parts = PurePosixPath(name).parts
        reason = ""
        if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0] or "\0" in name:
            reason = "leads outside the folder"
        elif stat.S_ISLNK(member.external_attr >> 16):
            reason = "is a link"
        elif member.flag_bits & 1:
            reason = "is encrypted"
        elif name.casefold() in seen:
            reason = "is there twice"
        elif member.file_size > 1 << 20 and member.file_size > MAX_RATIO * max(1, member.compress_size):
            reason = f"unpacks to {member.file_size} bytes from {member.compress_size}"
        if reason:
            raise DataError(f"{archive}: member '{name}' {reason}; nothing was unpacked", hint="do not use this file")
        seen.add(name.casefold())
    return files


def _extract(
    opened: zipfile.ZipFile, member: zipfile.ZipInfo, out: Path, archive: Path, folder: Path, needed: int
) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with opened.open(member) as source, out.open("xb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(
            f"{archive}: member '{member.filename}' is damaged ({error})", hint="remove the archive and fetch it again"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _full(folder, needed, shutil.disk_usage(folder).free) from error


def _full(folder: Path, needed: int, free: int) -> EnvironmentLacks:
    return EnvironmentLacks(
        f"{folder}: the disk is full: unpacking needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free; "
        "nothing was unpacked, the archive is kept",
        hint="make room, then run the same command again; or score straight from the archive: --data FILE.zip",
    )
