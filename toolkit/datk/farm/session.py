"""One job on a device that has a shell, Python and NumPy: send, run under the agent's supervisor, fetch, clean up."""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from datk.farm.adapters.base import Answer, Log, Transport
from datk.farm.build_job import AnyJob
from datk.farm.errors import (
    AgentCrashed,
    ConnectionLost,
    CorruptResult,
    DeviceBusy,
    DeviceError,
    DeviceFull,
    WrongDevice,
)
from datk.farm.inventory import Device
from datk.farm.job import AGENT

RESULT = "result.json"
RESULT_LIMIT = 8_000_000
"""Bytes of result.json: a thousand rounds of times fit ten times over."""
LIFELINE_S = 2.0
SHORT_S = 120.0
GRACE_S = 30.0
"""How long the supervisor may take to end a job that ran out of time, before the host gives up on the device."""
_FULL, _BUSY = 28, 75
_SAME = {"arm64": "aarch64", "amd64": "x86_64", "armv8l": "aarch64"}


class ShellSession:
    """A Session over any Transport."""

    def __init__(self, transport: Transport, device: Device, *, root: str) -> None:
        self._transport = transport
        self._device = device
        self._root = PurePosixPath(root)

    async def probe(self) -> dict[str, object]:
        """Ask the agent what the device is. Raises WrongDevice when there is no usable Python."""
        await self._prepare()
        return await self._probe()

    async def run_job(self, job: AnyJob, out: Path, log: Log) -> None:
        """See Session. `out` exists and is empty."""
        await self._prepare()
        told = await self._probe()
        self._check(told, job)
        folder = self._root / f"job-{job.key[:12]}-{secrets.token_hex(4)}"
        try:
            await self._send(job, folder, log)
            answer = await self._agent(
                "supervise",
                str(folder),
                timeout_s=job.device.limits.timeout_s + GRACE_S,
                lifeline_s=LIFELINE_S,
            )
            self._raise_for(answer)
            log(f"ran on {told.get('model') or told.get('machine')}")
            await self._transport.pull(folder / RESULT, out / RESULT, limit=RESULT_LIMIT)
            await self._fetch(job, folder, out)
        finally:
            await asyncio.shield(self._clean(folder, log))

    async def _prepare(self) -> None:
        """The farm's folder and the agent, newly sent each time: a device may have been changed in between."""
        await self._transport.mkdir([self._root])
        await self._transport.push(AGENT, self._root / "agent.py")

    async def _probe(self) -> dict[str, object]:
        answer = await self._agent("probe", "--root", str(self._root), timeout_s=SHORT_S)
        try:
            told = json.loads(answer.out.strip().splitlines()[-1]) if answer.code == 0 else None
        except (ValueError, IndexError):
            told = None
        if not isinstance(told, dict):
            words = (answer.err or answer.out).strip()[-300:]
            raise WrongDevice(
                f"{self._device.name}: `{' '.join(self._device.python)}` runs no agent: {words or 'no answer'}",
                hint="Python 3.8 or newer with NumPy is needed there; name it with `python: [PATH]`",
            )
        return told

    def _check(self, told: dict[str, object], job: AnyJob) -> None:
        machine = str(told.get("machine"))
        wanted = self._device.arch
        if wanted is not None and _SAME.get(wanted, wanted) != _SAME.get(machine, machine):
            raise WrongDevice(
                f"{self._device.name}: the inventory says {wanted}, the device says it is {machine[:40]}",
                hint="correct devices.yaml, or find out which device answers at this address",
            )
        if told.get("numpy") is None:
            raise WrongDevice(f"{self._device.name}: no NumPy for {' '.join(self._device.python)}")
        runtimes = told.get("runtimes")
        if not isinstance(runtimes, dict) or job.runtime not in runtimes:
            found = ", ".join(map(str, runtimes)) if isinstance(runtimes, dict) and runtimes else "none"
            raise WrongDevice(f"{self._device.name}: no {job.runtime} there, found {found[:200]}")
        self._room(told, job)

    def _room(self, told: dict[str, object], job: AnyJob) -> None:
        free = told.get("free_bytes")
        if isinstance(free, int | float) and free < job.bytes_needed:
            raise DeviceFull(
                f"{self._device.name}: {free / 1e6:.0f} MB free at {self._root}, "
                f"{job.bytes_needed / 1e6:.0f} MB needed",
                hint="free space there, or name another `root`",
            )

    async def _send(self, job: AnyJob, folder: PurePosixPath, log: Log) -> None:
        try:
            await self._transport.mkdir(sorted({folder, *((folder / name).parent for _, name in job.sent)}))
            with tempfile.TemporaryDirectory() as own:
                description = Path(own) / "job.json"
                description.write_text(json.dumps(job.for_device()), encoding="utf-8")
                await self._transport.push(description, folder / "job.json")
            for path, name in job.sent:
                await self._push_tree(path, folder / name)
        except ConnectionLost as error:
            # Servers report a full disk as a general failure: look before blaming the wire.
            self._room(await self._probe(), job)
            raise error
        log(f"sent {job.sent_bytes:,} bytes")

    async def _push_tree(self, local: Path, remote: PurePosixPath) -> None:
        if not local.is_dir():
            await self._transport.push(local, remote)
            return
        files = sorted(p for p in local.rglob("*") if p.is_file())
        folders = sorted({(remote / p.parent.relative_to(local).as_posix()) for p in files})
        await self._transport.mkdir(folders)
        for path in files:
            await self._transport.push(path, remote / path.relative_to(local).as_posix())

    async def _fetch(self, job: AnyJob, folder: PurePosixPath, out: Path) -> None:
        """What the job left. Names are this host's, sizes are bounded beforehand."""
        try:
            answer = json.loads((out / RESULT).read_bytes())
        except (ValueError, RecursionError) as error:
            raise CorruptResult(f"{self._device.name}: result.json is no JSON ({type(error).__name__})") from error
        if not isinstance(answer, dict):
            raise CorruptResult(f"{self._device.name}: result.json is no JSON object")
        for there, here, limit in job.fetched(answer):
            await self._transport.pull(folder / there, out / here, limit=limit)

    def _raise_for(self, answer: Answer) -> None:
        if answer.code == 0:
            return
        words = answer.err.strip()[-500:] or answer.out.strip()[-500:]
        if answer.code == _BUSY:
            raise DeviceBusy(f"{self._device.name}: {words}")
        if answer.code == _FULL:
            raise DeviceFull(f"{self._device.name}: {words}", hint="free space there, or name another `root`")
        raise AgentCrashed(f"{self._device.name}: the agent ended with code {answer.code}: {words or 'no words'}")

    async def _clean(self, folder: PurePosixPath, log: Log) -> None:
        """End what may still run and remove the job's folder. A device that cannot be reached ends its job itself."""
        try:
            await asyncio.wait_for(self._end(folder), timeout=2 * GRACE_S)
        except (DeviceError, TimeoutError) as error:
            log(f"not cleaned up, the agent there ends the job by itself: {error}")

    async def _end(self, folder: PurePosixPath) -> None:
        await self._agent("end", str(folder), timeout_s=GRACE_S)

    async def _agent(self, verb: str, *words: str, timeout_s: float, lifeline_s: float | None = None) -> Answer:
        argv: Sequence[str] = [*self._device.python, str(self._root / "agent.py"), verb, *words]
        return await self._transport.run(argv, timeout_s=timeout_s, lifeline_s=lifeline_s)
