"""This machine as a device: the same agent, in a folder of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path, PurePosixPath

from datk.farm.adapters.base import Adapter, Answer, Session, clean_text, process
from datk.farm.errors import ConnectionLost, CorruptResult, DeviceFull, JobTimeout
from datk.farm.inventory import Device
from datk.farm.session import ShellSession


class LocalTransport:
    """Children and copies on this machine."""

    async def run(self, argv: Sequence[str], *, timeout_s: float, lifeline_s: float | None = None) -> Answer:
        """See Transport."""
        stdin = asyncio.subprocess.PIPE if lifeline_s is not None else asyncio.subprocess.DEVNULL
        try:
            async with process(argv, stdin=stdin) as child:
                return await answer_of(child, timeout_s=timeout_s, lifeline_s=lifeline_s)
        except FileNotFoundError:
            return Answer(127, "", f"{argv[0]}: no such program")

    async def mkdir(self, folders: Sequence[PurePosixPath]) -> None:
        """See Transport."""
        for folder in folders:
            try:
                Path(folder).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise full_or_lost(error, str(folder)) from error

    async def push(self, local: Path, remote: PurePosixPath) -> None:
        """See Transport."""
        try:
            await asyncio.to_thread(shutil.copyfile, local, remote)
        except OSError as error:
            raise full_or_lost(error, str(remote)) from error

    async def pull(self, remote: PurePosixPath, local: Path, *, limit: int) -> None:
        """See Transport."""
        try:
            handle = os.open(remote, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise CorruptResult(f"{remote.name}: {error.strerror}") from error
        try:
            facts = os.fstat(handle)
            check_file(remote.name, stat.S_ISREG(facts.st_mode), facts.st_size, limit)
            with local.open("xb") as target:
                while block := os.read(handle, 1 << 20):
                    target.write(block)
        finally:
            os.close(handle)


async def answer_of(child: asyncio.subprocess.Process, *, timeout_s: float, lifeline_s: float | None) -> Answer:
    """Wait for a child with its lifeline fed. Raises JobTimeout."""
    feeder = asyncio.create_task(_feed(child, lifeline_s)) if lifeline_s is not None else None
    assert child.stdout is not None and child.stderr is not None
    try:
        async with asyncio.timeout(timeout_s):
            out, err, code = await asyncio.gather(limited(child.stdout), limited(child.stderr), child.wait())
    except TimeoutError as error:
        raise JobTimeout(f"no answer after {timeout_s:g} s") from error
    finally:
        if feeder is not None:
            feeder.cancel()
    return Answer(code if code >= 0 else 128 - code, clean_text(out), clean_text(err))


async def limited(stream: asyncio.StreamReader, limit: int = 1_000_000) -> bytes:
    """All of a stream, the last `limit` bytes kept: a talkative device cannot fill this host's memory."""
    kept = b""
    while block := await stream.read(65536):
        kept = (kept + block)[-limit:]
    return kept


async def _feed(child: asyncio.subprocess.Process, every_s: float) -> None:
    assert child.stdin is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        while child.returncode is None:
            child.stdin.write(b".")
            await child.stdin.drain()
            await asyncio.sleep(every_s)


def check_file(name: str, regular: bool, size: int, limit: int) -> None:
    """Raise CorruptResult unless a device's file is a regular one within its limit."""
    if not regular:
        raise CorruptResult(f"{name}: not a regular file")
    if size > limit:
        raise CorruptResult(f"{name}: {size} bytes, at most {limit} expected")


def full_or_lost(error: OSError, what: str) -> DeviceFull | ConnectionLost:
    """What an OS error of a copy means."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DeviceFull(f"{what}: {error.strerror}")
    return ConnectionLost(f"{what}: {error.strerror}")


@asynccontextmanager
async def _open(device: Device) -> AsyncIterator[Session]:
    if device.python == ("python3",):
        device = device.model_copy(update={"python": (sys.executable,)})
    root = Path(device.root).expanduser() if device.root else Path.home() / ".cache" / "datk-farm"
    yield ShellSession(LocalTransport(), device, root=str(root.resolve()))


ADAPTER = Adapter(kind="local", title="this machine", figures="measured", open=_open)
