"""Who works on which shard: leases as files, so that any number of processes and machines share one job.

A claim is claims/NUMBER.GENERATION, made by hard link: of all who try, one gets it, on a local disk as over NFS. Its
owner keeps writing a rising counter into that very file. Nobody compares clocks of two machines: whoever waits
watches the file, and takes the shard over with the next generation once the file has not changed for the lease time by
his own clock, at once when its owner gave it back or is a dead process of this machine. Generations are only ever
added, so two who take over at once cannot both win, and an owner who sees a generation above his has lost the shard.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Container, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from datk.errors import DataError

RECORD_BYTES = 512
MAX_DEATHS = 25
"""A shard whose owners died this often is what kills them: the job stops and names it."""


class LeaseLost(Exception):
    """Somebody else has taken the shard over; what was made of it must not be published."""


class Lease:
    """A claim that is held. Beats in a thread until it is given back; `lost` once somebody took the shard over."""

    def __init__(self, board: Board, number: int, generation: int, token: str, handle: int) -> None:
        self.board, self.number, self.generation, self.token = board, number, generation, token
        self.done = 0
        self._handle, self._beats = handle, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{number}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._write("released")
        os.close(self._handle)

    @property
    def lost(self) -> bool:
        """Whether a later generation of the claim exists, or the whole job was finished and its claims cleared."""
        folder = self.board.folder
        later, own = _name(self.number, self.generation + 1), _name(self.number, self.generation)
        return (folder / later).exists() or not (folder / own).exists()

    def check(self) -> None:
        """Raise LeaseLost unless the shard is still this worker's."""
        if self.lost:
            raise LeaseLost(f"shard {self.number} was taken over")

    def _beat(self) -> None:
        while not self._stop.wait(self.board.lease_s / 4):
            self._beats += 1
            self._write("working")

    def _write(self, state: str) -> None:
        """In place, through the open file: were the claim another's by now, his file would stay as it is."""
        os.pwrite(self._handle, _record(self.token, state, self._beats, self.done), 0)
        os.fsync(self._handle)


class Board:
    """The claims of one job, as one worker sees them. lease_s: silence after which an owner counts as gone."""

    def __init__(self, folder: Path, *, lease_s: float) -> None:
        self.folder, self.lease_s = folder, lease_s
        self._seen: dict[tuple[int, int], tuple[bytes, float]] = {}

    def take(self, numbers: Iterable[int]) -> Lease | None:
        """The first of these shards that is free or deserted, or None when others are at work on all of them.

        Raises DataError where a shard's owners keep dying, or the file system has no hard links.
        """
        latest = self._latest()
        for number in numbers:
            generation = latest.get(number)
            if generation is not None and not self._deserted(number, generation):
                continue
            lease = self._create(number, 0 if generation is None else generation + 1)
            if lease is not None:
                return lease
        return None

    def working(self, finished: Container[int]) -> dict[int, int]:
        """Images done so far of each shard, other than the finished ones, that somebody is at work on."""
        found = {}
        for number, generation in self._latest().items():
            if number in finished:
                continue
            record = _parsed(self._read(number, generation))
            if record is not None and record["state"] == "working":
                found[number] = int(record["done"])
        return found

    def clear(self) -> None:
        """Remove every claim, when the whole job is finished."""
        for path in list(self.folder.glob("*.*")):
            path.unlink(missing_ok=True)
        try:
            self.folder.rmdir()
        except OSError:
            return  # another worker, finishing as well, is at it

    def _latest(self) -> dict[int, int]:
        """Highest generation of each claimed shard."""
        latest: dict[int, int] = {}
        try:
            names = [path.name for path in self.folder.iterdir()]
        except FileNotFoundError:
            return latest  # the job has been finished and its claims cleared
        for name in names:
            number, _, generation = name.partition(".")
            if number.isdigit() and generation.isdigit():
                latest[int(number)] = max(latest.get(int(number), 0), int(generation))
        return latest

    def _deserted(self, number: int, generation: int) -> bool:
        content = self._read(number, generation)
        record = _parsed(content)
        if record is not None and record["state"] == "released":
            return True
        if generation >= MAX_DEATHS:
            raise DataError(
                f"shard {number}: {generation} workers died or fell silent over it",
                hint=f"look at its images; to try again, delete {self.folder / f'{number:06d}.*'}",
            )
        if record is not None and _is_dead_here(record):
            return True
        before = self._seen.get((number, generation))
        now = time.monotonic()
        if before is None or before[0] != content:
            self._seen[number, generation] = (content, now)
            return False
        return now - before[1] > self.lease_s

    def _read(self, number: int, generation: int) -> bytes:
        try:
            return (self.folder / _name(number, generation)).read_bytes()
        except FileNotFoundError:
            return b""  # cleared in between

    def _create(self, number: int, generation: int) -> Lease | None:
        token = secrets.token_hex(8)
        mine = self.folder / f".{token}"
        try:
            handle = os.open(mine, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        except FileNotFoundError:
            return None  # cleared: the job is finished
        os.pwrite(handle, _record(token, "working", 0, 0), 0)
        os.fsync(handle)
        try:
            won = link_once(mine, self.folder / _name(number, generation))
        finally:
            mine.unlink(missing_ok=True)
        if not won:
            os.close(handle)
            return None
        return Lease(self, number, generation, token, handle)


def link_once(source: Path, target: Path) -> bool:
    """Give source the second name target, unless that name is taken. True when it is ours.

    An NFS server may carry a link out and lose the answer: the number of names tells. Raises DataError where the file
    system has no hard links.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        return source.stat().st_nlink > 1
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DataError(
            f"{target}: the file system cannot make a hard link ({error.strerror})",
            hint="workers share a job by hard links; name an --out on a local disk or NFS",
        ) from error
    return True


def _name(number: int, generation: int) -> str:
    return f"{number:06d}.{generation}"


def _record(token: str, state: str, beats: int, done: int) -> bytes:
    """One fixed-width line, so that rewriting it in place never changes the file's length."""
    value = {"token": token, "state": state, "beats": beats, "done": done, **_process(os.getpid())}
    return json.dumps(value).encode().ljust(RECORD_BYTES - 1) + b"\n"


def _parsed(content: bytes) -> dict[str, Any] | None:
    """None for a line caught while it was being rewritten."""
    try:
        value = json.loads(content)
    except ValueError:
        return None
    return value if isinstance(value, dict) and {"state", "done", "pid"} <= value.keys() else None


def _process(pid: int) -> dict[str, Any]:
    """What names a process beyond doubt: host, boot, process-id space, id and start. None where the system is mute."""
    return {
        "host": socket.gethostname(),
        "boot": _first_line(Path("/proc/sys/kernel/random/boot_id")),
        "space": _link(Path("/proc/self/ns/pid")),
        "pid": pid,
        "started": _started(pid),
    }


def _is_dead_here(record: dict[str, Any]) -> bool:
    """Whether the owner was a process of this machine, seen from the same process-id space, that is gone."""
    me = _process(os.getpid())
    same_place = all(record.get(k) == me[k] and me[k] is not None for k in ("host", "boot", "space"))
    return same_place and record.get("started") != _started(int(record["pid"]))


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None


def _link(path: Path) -> str | None:
    try:
        return str(path.readlink())
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot; None when there is no such process, or it is a zombie."""
    text = _first_line(Path(f"/proc/{pid}/stat"))
    if text is None:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
