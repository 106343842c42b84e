"""An Android device behind adb. Needs Python with NumPy there (Termux, or a build pushed once) for predictions."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath

from datk.errors import EnvironmentLacks
from datk.farm.adapters.base import Adapter, Answer, Session, process
from datk.farm.adapters.local import answer_of, check_file
from datk.farm.errors import ConnectionLost, CorruptResult, DeviceFull, JobTimeout
from datk.farm.inventory import Adb, Device
from datk.farm.session import ShellSession

ROOT = "/data/local/tmp/datk-farm"
TRANSFER_S = 600.0
_CODE = re.compile(r"\n?datk-exit-(\d{1,3})\n?$")


class AdbTransport:
    """adb as a child process. `adb pull` is not used: of a folder it would make a folder here."""

    def __init__(self, program: str, serial: str) -> None:
        self._adb = [program, "-s", serial]
        self._name = serial

    async def run(self, argv: Sequence[str], *, timeout_s: float, lifeline_s: float | None = None) -> Answer:
        """See Transport. Old adb servers lose exit codes, so the shell says it itself."""
        command = f"{shlex.join(argv)}; code=$?; echo; echo datk-exit-$code"
        stdin = asyncio.subprocess.PIPE if lifeline_s is not None else asyncio.subprocess.DEVNULL
        async with process([*self._adb, "shell", command], stdin=stdin) as child:
            answer = await answer_of(child, timeout_s=timeout_s, lifeline_s=lifeline_s)
        told = _CODE.search(answer.out)
        if told is None:
            raise ConnectionLost(f"{self._name}: adb broke off: {(answer.err or answer.out).strip()[-300:]}")
        return Answer(int(told.group(1)), answer.out[: told.start()], answer.err)

    async def mkdir(self, folders: Sequence[PurePosixPath]) -> None:
        """See Transport."""
        answer = await self.run(["mkdir", "-p", *map(str, folders)], timeout_s=60)
        if answer.code != 0:
            words = answer.err.strip()[-300:] or answer.out.strip()[-300:]
            kind = DeviceFull if "No space left" in words else ConnectionLost
            raise kind(f"{self._name}: folders cannot be made: {words}")

    async def push(self, local: Path, remote: PurePosixPath) -> None:
        """See Transport."""
        async with process([*self._adb, "push", str(local), str(remote)]) as child:
            answer = await answer_of(child, timeout_s=TRANSFER_S, lifeline_s=None)
        if answer.code != 0:
            words = (answer.err or answer.out).strip()[-300:]
            if "No space left" in words:
                raise DeviceFull(f"{self._name}: {words}")
            raise ConnectionLost(f"{self._name}: adb push: {words}")

    async def pull(self, remote: PurePosixPath, local: Path, *, limit: int) -> None:
        """See Transport: the file's bytes over exec-out, cut at the limit; links and folders are refused."""
        kind = await self.run(["stat", "-c", "%f", str(remote)], timeout_s=60)
        mode = kind.out.strip()
        if kind.code != 0 or not re.fullmatch(r"[0-9a-f]{1,8}", mode):
            raise CorruptResult(f"{remote.name}: not on {self._name}")
        check_file(remote.name, int(mode, 16) & 0o170000 == 0o100000, 0, limit)
        command = shlex.join(["cat", str(remote)])
        async with process([*self._adb, "exec-out", command]) as child:
            assert child.stdout is not None
            got = 0
            try:
                async with asyncio.timeout(TRANSFER_S):
                    with local.open("xb") as target:
                        while block := await child.stdout.read(65536):
                            got += len(block)
                            check_file(remote.name, True, got, limit)
                            target.write(block)
                    code = await child.wait()
            except TimeoutError as error:
                raise JobTimeout(f"{self._name}: the transfer of {remote.name} hangs") from error
        if code != 0:
            raise ConnectionLost(f"{self._name}: adb exec-out ended with code {code}")


def program_of(access: Adb) -> str:
    """adb's path. Raises EnvironmentLacks with the line that installs it."""
    found = shutil.which(str(Path(access.adb).expanduser()))
    if found is None:
        raise EnvironmentLacks(
            f"no program '{access.adb}' on this machine", hint="apt-get install adb, or Android's platform-tools"
        )
    return found


@asynccontextmanager
async def _open(device: Device) -> AsyncIterator[Session]:
    assert device.adb is not None
    transport = AdbTransport(program_of(device.adb), device.adb.serial)
    async with process([*transport._adb, "get-state"]) as child:
        answer = await answer_of(child, timeout_s=30, lifeline_s=None)
    if answer.code != 0 or answer.out.strip() != "device":
        words = (answer.err or answer.out).strip()[-300:]
        raise ConnectionLost(f"{device.name}: adb sees no usable {device.adb.serial}: {words or 'no answer'}")
    yield ShellSession(transport, device, root=device.root or ROOT)


ADAPTER = Adapter(kind="adb", title="an Android device behind adb", figures="measured", open=_open)
