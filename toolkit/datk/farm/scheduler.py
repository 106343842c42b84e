"""Run queued jobs: devices beside each other, one job at a time on each, with leases, retries and quarantine."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datk.errors import DatkError
from datk.farm import adapters
from datk.farm.build_job import AnyJob, BuildJob
from datk.farm.errors import (
    AccessRefused,
    ConnectionLost,
    DeviceBusy,
    DeviceError,
    HostKeyRefused,
    JobTimeout,
)
from datk.farm.intake import check_built, check_result
from datk.farm.inventory import Device
from datk.farm.store import LEASE_S, Claim, Store

QUARANTINED_FOR_H = 1.0
_DEVICE_TROUBLE = (ConnectionLost, JobTimeout, HostKeyRefused, AccessRefused)
"""What speaks against a device rather than against one job, once its tries are used up."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast the scheduler looks, renews and tries again."""

    renew_s: float = LEASE_S / 10
    backoff_s: float = 2.0
    backoff_max_s: float = 120.0
    busy_s: float = 2.0
    poll_s: float = 0.5

    def delay(self, attempt: int) -> float:
        """Seconds before try `attempt` + 1, with jitter, so that many jobs do not come back at once."""
        return float(min(self.backoff_s * 2**attempt, self.backoff_max_s) * random.uniform(0.75, 1.25))


async def drain(
    store: Store, ids: Sequence[int], devices: Mapping[str, Device], *, pace: Pace | None = None
) -> dict[str, str]:
    """Run the jobs `ids` until each has ended or its device is out of reach.

    devices: by name; the inventory of now, not of when the job was queued. Returns device -> why its jobs still wait.
    When this task is cancelled, what runs on devices is ended there and its jobs are queued again.
    """
    store.discard_remains()
    by_device: dict[str, list[int]] = {}
    for row in store.rows(ids):
        by_device.setdefault(row.device, []).append(row.id)
    workers = [_Worker(store, devices[name], own, pace or Pace()) for name, own in by_device.items()]
    async with asyncio.TaskGroup() as group:
        tasks = {w.device.name: group.create_task(w.run()) for w in workers}
    return {name: reason for name, task in tasks.items() if (reason := task.result())}


class _Worker:
    """One device's line of jobs."""

    def __init__(self, store: Store, device: Device, ids: Sequence[int], pace: Pace) -> None:
        self._store = store
        self.device = device
        self._ids = ids
        self._pace = pace

    async def run(self) -> str | None:
        """Until nothing is left to do. Returns why jobs are left waiting, or None."""
        while (next_ := self._store.claim(self.device.name, self._ids)) is not None:
            if isinstance(next_, Claim):
                await self._one(next_)
            elif next_.seconds == float("inf"):
                return next_.why
            else:
                await asyncio.sleep(min(max(next_.seconds, 0.01), self._pace.poll_s))
        return None

    async def _one(self, claim: Claim) -> None:
        part = self._store.results / f".{claim.job.key}.{claim.token}.part"
        part.mkdir(parents=True)
        try:
            await self._attempt(claim, part)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    async def _attempt(self, claim: Claim, part: Path) -> None:
        work = asyncio.create_task(self._work(claim, part))
        try:
            order = await self._attend(claim, work)
        except asyncio.CancelledError:
            await _stopped(work)
            self._store.put_back(claim, error="", delay_s=0, counts=False)
            raise
        if order == "lost":
            return  # another owner has the job by now; nothing of this try is recorded
        if order == "cancel":
            self._store.end(claim, "cancelled", error="cancelled")
            return
        error = work.exception()
        if error is None:
            self._keep(claim, part)
        elif isinstance(error, DatkError):
            self._failed(claim, error)
        else:
            raise error

    async def _attend(self, claim: Claim, work: asyncio.Task[None]) -> str:
        """Renew the lease while the work goes on. Returns "ended", "cancel" or "lost"; the work has stopped then."""
        while True:
            await asyncio.wait({work}, timeout=self._pace.renew_s)
            if work.done():
                return "ended"
            if (state := self._store.renew(claim)) != "held":
                await _stopped(work)
                return state

    async def _work(self, claim: Claim, out: Path) -> None:
        job = claim.job.model_copy(update={"device": self.device})
        log = partial(self._store.log, claim.id)
        async with adapters.get(self.device.kind).open(self.device) as session:
            await session.run_job(job, out, log)
        await asyncio.to_thread(_check, claim.job, out)

    def _keep(self, claim: Claim, part: Path) -> None:
        """A verified result: into its own folder first, then into the records, if the lease still holds."""
        folder = part.with_name(f"{claim.job.key}.{claim.token}")
        part.rename(folder)
        if not self._store.end(claim, "done", folder=folder.name):
            shutil.rmtree(folder)

    def _failed(self, claim: Claim, error: DatkError) -> None:
        words = error.message + (f" ({error.hint})" if error.hint else "")
        limits = self.device.limits
        retry = isinstance(error, DeviceError) and error.retry
        counts = not isinstance(error, DeviceError) or error.counts
        last = claim.attempts + 1 >= limits.attempts
        if isinstance(error, DeviceBusy):
            self._store.put_back(claim, error=words, delay_s=self._pace.busy_s, counts=False)
            return
        if retry and not (last and counts):
            self._store.put_back(claim, error=words, delay_s=self._pace.delay(claim.attempts), counts=counts)
            return
        if isinstance(error, _DEVICE_TROUBLE) or getattr(error, "quarantine", False):
            self._store.quarantine(self.device.name, error.message, hours=QUARANTINED_FOR_H)
        self._store.end(claim, "failed", error=f"{type(error).__name__}: {words}")


def _check(job: AnyJob, folder: Path) -> None:
    """Raises what speaks against the result."""
    if isinstance(job, BuildJob):
        check_built(job, folder)
    else:
        check_result(job, folder)


async def _stopped(work: asyncio.Task[None]) -> None:
    """Cancel and wait until the device's side is cleaned up."""
    work.cancel()
    with suppress(asyncio.CancelledError, DatkError):
        await work
