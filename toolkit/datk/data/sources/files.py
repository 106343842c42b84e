"""Images that lie as files: below a folder, or named in a list."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from datk.data.sources.base import EncodedSource
from datk.depth.preprocess import IMAGE_SUFFIXES
from datk.errors import DataError


class FileSource(EncodedSource):
    """Image files given by paths relative to a root (an absolute path stands for itself)."""

    def __init__(self, root: Path, relative: Sequence[str], *, name: str) -> None:
        self.root, self.relative, self.name = root, relative, name

    def __len__(self) -> int:
        return len(self.relative)

    def key(self, index: int) -> str:
        return self.relative[index]

    def path(self, index: int) -> Path:
        """The file of an image."""
        return self.root / self.relative[index]

    def encoded(self, index: int) -> bytes:
        path = self.path(index)
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def walk_files(root: Path) -> list[str]:
    """Relative POSIX paths of all files below root, sorted; folder links are followed. DataError when it is none."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder", hint="name an existing folder")
    found: list[str] = []
    prefix = len(str(root)) + (not str(root).endswith(os.sep))
    for folder, _, names in os.walk(root, followlinks=True):
        inside = folder[prefix:].replace(os.sep, "/")
        found += [f"{inside}/{name}" if inside else name for name in names]
    return sorted(found)


def first_repeated(names: Sequence[str]) -> str | None:
    """The first name that stands twice, or None."""
    seen: set[str] = set()
    return next((n for n in names if n in seen or seen.add(n)), None)  # type: ignore[func-returns-value]


def folder_source(root: Path, *, name: str) -> FileSource:
    """Every picture below root, sorted by relative path. Raises DataError when there is none."""
    found = [p for p in walk_files(root) if p.lower().endswith(IMAGE_SUFFIXES)]
    if not found:
        raise DataError(f"{root}: holds no pictures", hint=f"expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    return FileSource(root, found, name=name)


def list_source(listing: Path, *, name: str) -> FileSource:
    """Pictures named in a text file, one path a line, relative to the list's folder; blank and # lines are skipped.

    Files are not looked at here: one that is missing is told when it is read. Raises DataError when the list cannot
    be read, names nothing, or names one path twice.
    """
    try:
        lines = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{listing}: not a readable list ({error})", hint="one image path a line, UTF-8") from error
    paths = [line for line in lines if line and not line.startswith("#")]
    if not paths:
        raise DataError(f"{listing}: names no pictures", hint="one image path a line, relative to the list's folder")
    if (twice := first_repeated(paths)) is not None:
        raise DataError(f"{listing}: names '{twice}' more than once", hint="remove repeated lines: sort -u")
    return FileSource(listing.parent, paths, name=name)
