"""Where a benchmark's images lie: a folder, or a zip archive that is never unpacked."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Protocol

from datk.errors import DataError


class ImageStore(Protocol):
    """Files by their path in the annotations."""

    def has(self, path: str) -> bool: ...

    def read(self, path: str) -> bytes:
        """Raises DataError when it is not there or cannot be read."""
        ...


class FolderStore:
    """Files below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def has(self, path: str) -> bool:
        return (self._root / path).is_file()

    def read(self, path: str) -> bytes:
        try:
            return (self._root / path).read_bytes()
        except OSError as error:
            raise DataError(f"{self._root / path}: cannot be read ({error.strerror})") from error


class ZipStore:
    """Files of a zip archive, below the folder that holds `marker`. Raises DataError when there is no such file."""

    def __init__(self, archive: Path, *, marker: str) -> None:
        try:
            self._zip = zipfile.ZipFile(archive)
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{archive}: not a readable zip archive ({error})", hint="fetch it again") from error
        self._archive = archive
        self._names = set(self._zip.namelist())
        roots = [n[: -len(marker)] for n in self._names if n == marker or n.endswith(f"/{marker}")]
        if not roots:
            raise DataError(f"{archive}: holds no {marker}", hint="is it the right archive?")
        self._root = min(roots, key=len)

    def has(self, path: str) -> bool:
        return self._root + path in self._names

    def read(self, path: str) -> bytes:
        try:
            return self._zip.read(self._root + path)
        except KeyError as error:
            raise DataError(f"{self._archive}: no {self._root + path} in it") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            raise DataError(
                f"{self._archive}: {self._root + path} is damaged ({error})", hint="fetch it again"
            ) from error
