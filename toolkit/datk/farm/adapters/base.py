"""What an adapter is. A hosted farm is one more file here: give an ADAPTER whose session runs one job and brings back
result.json and predictions.npy; queue, leases, retries, intake and scoring stay as they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from datk.farm.build_job import AnyJob
from datk.farm.inventory import Device

Log = Callable[[str], None]
Figures = Literal["measured", "emulated", "simulated"]
"""What a device's latency is worth. Only "measured" ones are figures of a device."""


@dataclass(frozen=True)
class Answer:
    """What a command on the device said. Texts are cut at a limit and hold no control characters."""

    code: int
    out: str
    err: str


class Transport(Protocol):
    """Files to the device, commands on it, files back. Paths are POSIX, relative to where a login ends or absolute."""

    async def run(self, argv: Sequence[str], *, timeout_s: float, lifeline_s: float | None = None) -> Answer:
        """Run a command line, each word quoted.

        lifeline_s: write a byte to its standard input that often, so that it notices when this host is gone.
        Raises ConnectionLost, JobTimeout. Cancelling the task closes the command's input.
        """
        ...

    async def mkdir(self, folders: Sequence[PurePosixPath]) -> None:
        """Make folders with their parents; one that is there is fine. Raises ConnectionLost, DeviceFull."""
        ...

    async def push(self, local: Path, remote: PurePosixPath) -> None:
        """Copy one file. Raises ConnectionLost, DeviceFull."""
        ...

    async def pull(self, remote: PurePosixPath, local: Path, *, limit: int) -> None:
        """Copy one regular file of at most `limit` bytes to `local`, which must not exist.

        Raises CorruptResult when it is absent, too large, a link or no file; ConnectionLost.
        """
        ...


class Session(Protocol):
    """An open device."""

    async def probe(self) -> dict[str, object]:
        """What the device is: machine, os, python, runtimes with versions, free bytes. Raises DeviceError."""
        ...

    async def run_job(self, job: AnyJob, out: Path, log: Log) -> None:
        """Run one job; leaves result.json and, when there are any, predictions.npy or built files in `out`.

        Raises DeviceError. Whatever happens, and when the task is cancelled, nothing of the job runs on afterwards.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A kind of device: a light description, and how to open one."""

    kind: str
    title: str
    figures: Figures
    open: Callable[[Device], AbstractAsyncContextManager[Session]]
    """Raises DeviceError, EnvironmentLacks."""


TEXT_LIMIT = 64 * 1024


def clean_text(raw: bytes, limit: int = TEXT_LIMIT) -> str:
    """A device's words, safe to print: UTF-8 with replacements, no control characters, the end kept when cut."""
    text = raw[-limit:].decode("utf-8", errors="replace")
    return "".join(c if c in "\n\t" or (c.isprintable() and c != "\u202e") else "\ufffd" for c in text)


@asynccontextmanager
async def process(
    argv: Sequence[str], *, stdin: int | None = asyncio.subprocess.DEVNULL
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A child of this host in a group of its own; whatever happens, the whole group is ended with the block."""
    import os
    import signal
    from contextlib import suppress

    child = await asyncio.create_subprocess_exec(
        *argv, stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
