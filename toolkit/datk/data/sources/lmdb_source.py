"""Images in LMDB, one encoded picture a value, as LSUN ships them."""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from datk.data.sources.base import EncodedSource
from datk.errors import DataError, EnvironmentLacks


def databases_below(folder: Path) -> list[Path]:
    """Folders that hold a data.mdb: folder itself, or those directly below it, sorted. Raises DataError when none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", hint="name a folder that holds data.mdb")
    if (folder / "data.mdb").is_file():
        return [folder]
    found = sorted(p.parent for p in folder.glob("*/data.mdb"))
    if not found:
        raise DataError(
            f"{folder}: no data.mdb here or one folder below", hint="name the folder of one LMDB, or the one above many"
        )
    return found


class LmdbSource(EncodedSource):
    """Values of one or several databases in key order. A key is DATABASE/KEY, or KEY when there is one database."""

    def __init__(self, folders: Sequence[Path], *, name: str) -> None:
        """Read all keys (not the values). Raises DataError on a folder that is no LMDB or is empty."""
        self.name, self.folders = name, tuple(folders)
        self._keys = tuple(self._list_keys(i) for i in range(len(self.folders)))
        self._ends = tuple(accumulate(len(k) for k in self._keys))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def key(self, index: int) -> str:
        database, raw = self._find(index)
        text = raw.decode("utf-8", "backslashreplace")
        return text if len(self.folders) == 1 else f"{self.folders[database].name}/{text}"

    def encoded(self, index: int) -> bytes:
        database, raw = self._find(index)
        with _environment(self.folders[database]).begin(buffers=False) as transaction:
            value = transaction.get(raw)
        if value is None:
            raise DataError(f"{self.folders[database]}: no value for '{self.key(index)}'")
        return bytes(value)

    def _find(self, index: int) -> tuple[int, bytes]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        database = bisect_right(self._ends, index)
        return database, bytes(self._keys[database][index - (self._ends[database - 1] if database else 0)])

    def _list_keys(self, database: int) -> Any:
        with _environment(self.folders[database]).begin() as transaction:
            keys = [bytes(k) for k in transaction.cursor().iternext(keys=True, values=False) if not k.startswith(b"__")]
        if not keys:
            raise DataError(f"{self.folders[database]}: an LMDB without a picture")
        same_length = len({len(k) for k in keys}) == 1 and not any(k.endswith(b"\0") for k in keys)
        return np.array(keys) if same_length else keys


_OPEN: dict[Path, Any] = {}
_LOCK = threading.Lock()


def _environment(folder: Path) -> Any:
    """The environment of a folder in this process; LMDB allows one a process."""
    at = folder.resolve()
    with _LOCK:
        if at not in _OPEN:
            _OPEN[at] = _open(folder)
        return _OPEN[at]


def _forget_parents() -> None:
    """After a fork: LMDB must not be used across one, so the child closes what it inherited and opens its own."""
    global _LOCK
    _LOCK = threading.Lock()
    for environment in _OPEN.values():
        environment.close()
    _OPEN.clear()


os.register_at_fork(after_in_child=_forget_parents)


def _open(folder: Path) -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise EnvironmentLacks("reading LMDB needs the package lmdb", hint='pip install "datk[data]"') from error
    try:
        return lmdb.open(str(folder), readonly=True, lock=False, readahead=False, max_readers=1024)
    except lmdb.Error as error:
        raise DataError(f"{folder}: not a readable LMDB ({error})", hint="it needs its data.mdb, whole") from error
