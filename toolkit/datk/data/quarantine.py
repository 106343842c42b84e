"""Files that cannot be read: listed with the reason, counted, replaced by a fixed other sample, and never too many."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from datk.data.order import permuted
from datk.errors import DataError

T = TypeVar("T")

_REPLACEMENT = 0x5EED
_TRIES = 64


def default_limit(count: int) -> int:
    """How many of `count` files may be bad before a run stops: one in a thousand, at least 100."""
    return max(100, count // 1000)


class Quarantine:
    """The list of bad files of one run: JSON lines {key, reason, at}, shared by threads and processes.

    Once listed, a file stays out for the run, so that a resumed run replaces what the first one replaced; delete its
    line to let it back in.
    """

    def __init__(self, path: Path, *, limit: int) -> None:
        self.path, self.limit = path, limit
        self._lock = threading.Lock()
        self._known = set(self.entries())

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "limit": self.limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], limit=state["limit"])  # type: ignore[misc]

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __len__(self) -> int:
        return len(self.entries())

    def entries(self) -> dict[str, str]:
        """Key -> reason of everything listed. A last line that a kill cut short is not counted."""
        if not self.path.is_file():
            return {}
        found: dict[str, str] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            found.setdefault(str(entry["key"]), str(entry["reason"]))
        return found

    def add(self, key: str, reason: str) -> None:
        """List a file. Raises DataError when more than `limit` are listed now, naming the list and the last reason."""
        with self._lock:
            if key not in self._known:
                self._known.add(key)
                self._append({"key": key, "reason": reason, "at": datetime.now(UTC).isoformat(timespec="seconds")})
            count = len(self.entries())
        if count > self.limit:
            raise DataError(
                f"{count} files cannot be read, more than the {self.limit} this run puts up with; the last: {reason}",
                hint=f"all of them with reasons: {self.path}; repair the data, or raise the limit if this is expected",
            )

    def _append(self, entry: dict[str, str]) -> None:
        """One write of one line: several processes append without mixing their lines."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)


class QuarantiningSource(Generic[T]):
    """Samples by number, where a number whose file is bad gives another sample of the same source.

    Which one is a pure function of the number (and of which files are bad), so the order of training stays a pure
    function of its counter. `read` raises DataError for a bad file; anything else is a bug or a lack and passes.
    """

    def __init__(
        self, read: Callable[[int], T], *, count: int, key: Callable[[int], str], quarantine: Quarantine
    ) -> None:
        self.read, self.count, self.key, self.quarantine = read, count, key, quarantine

    def __len__(self) -> int:
        return self.count

    def load(self, index: int) -> T:
        """The sample of a number, or its replacement. Raises DataError when there are more bad files than the limit."""
        for turn in range(_TRIES):
            chosen = index if turn == 0 else permuted(index, self.count, _REPLACEMENT, turn)
            key = self.key(chosen)
            if key in self.quarantine:
                continue
            try:
                return self.read(chosen)
            except DataError as error:
                self.quarantine.add(key, error.message)
        raise DataError(
            f"no readable replacement for {self.key(index)} among {_TRIES} tried",
            hint=f"nearly everything is bad: {self.quarantine.path}",
        )
