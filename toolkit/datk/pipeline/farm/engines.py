"""`datk export --device NAME`: what must be built on the very device is built there, brought back and judged here."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from datk import targets
from datk.artifact.files import sha256_file, size_bytes
from datk.artifact.manifest import Metric
from datk.errors import DataError, EnvironmentLacks, UsageError
from datk.farm import adapters
from datk.farm.build_job import BuildJob, SentFile, WantedFile
from datk.farm.errors import JobFailed
from datk.farm.intake import read_built
from datk.farm.inventory import Device, load_inventory
from datk.farm.store import ROOT, JobRow, Store
from datk.pipeline.farm.engine_stage import Judged, judge, write_engine_stage
from datk.pipeline.farm.figures import NO_FIGURE
from datk.pipeline.farm.run import FarmReporter, drain_shown
from datk.pipeline.runs import Artifact
from datk.targets.base import Target
from datk.targets.device_build import DeviceBuild
from datk.targets.known_bad import known_bad

COMES_WITH = {
    "tensorrt": "on a Jetson it comes with JetPack: apt-get install python3-libnvinfer",
    "coreml": "on a Mac it comes with coremltools: pip install coremltools pillow",
}
"""Where a runtime is to be had on a device."""


@dataclass(frozen=True, kw_only=True)
class EngineRow:
    """What came of one export on the device."""

    artifact: str
    """TARGET-PRECISION, with the size where there are several."""
    device: str
    status: Literal["passed", "rejected", "not measured"]
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    simulated: bool = False
    folder: Path | None = None
    """65-engine-ARTIFACT-DEVICE; None when nothing was brought back."""
    metrics: dict[str, Metric] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            **vars(self),
            "folder": str(self.folder) if self.folder else None,
            "metrics": {k: m.model_dump(mode="json") for k, m in self.metrics.items()},
        }


def the_device(name: str, names: Sequence[str], inventory: Path | None = None) -> Device:
    """The one device that answers to a name or label. names: of the targets to export.

    Raises UsageError when none or several answer, or no target builds anything on a device; InventoryError;
    EnvironmentLacks for a disabled one.
    """
    if not any(targets.get(n).device_build for n in names):
        able = [n for n, t in targets.available().items() if t.device_build]
        raise UsageError(
            f"--device {name}: {', '.join(names)} builds nothing on a device",
            hint=f"it is for --target {', '.join(able)}; `datk farm run --devices {name}` runs any artifact there",
        )
    found = load_inventory(inventory).select([name])
    found = tuple(d for d in found if d.name == name) or found
    if len(found) > 1:
        raise UsageError(f"--device {name}: {', '.join(d.name for d in found)} answer to it", hint="name one of them")
    (device,) = found
    if device.disabled is not None:
        raise EnvironmentLacks(f"{device.name} is disabled: {device.disabled}", hint="name another --device")
    return device


def ask(device: Device, names: Sequence[str]) -> dict[str, str]:
    """Runtimes of a device with their versions, asked now, before minutes of exporting.

    Raises DeviceError when it is out of reach, EnvironmentLacks when it lacks what one of the targets builds with.
    """
    told = asyncio.run(_probe(device)).get("runtimes")
    found = {str(k): str(v) for k, v in told.items()} if isinstance(told, dict) else {}
    for target in (targets.get(n) for n in names):
        runtime = target.device_runtime if target.device_build else None
        if runtime is not None and (runtime not in found or (device.runtimes and runtime not in device.runtimes)):
            here = f"found {', '.join(found)}" if found else "found no runtime"
            raise EnvironmentLacks(
                f"{device.name}: no {runtime} for `{' '.join(device.python)}` there, {here}",
                hint=f"{COMES_WITH[runtime]}; or name its interpreter with `python: [PATH]` in devices.yaml",
            )
    return found


def build_engines(
    artifacts: Sequence[Artifact],
    device: Device,
    runtimes: Mapping[str, str],
    *,
    reporter: FarmReporter,
    force: bool = False,
    store: Path = ROOT,
) -> list[EngineRow]:
    """Build those of the artifacts whose target needs it, one after another on the device, and write their stages.

    runtimes: as `ask` returns them; another version is another job. What was built before is not built again, unless
    `force`. Raises DataError for an export folder whose files are not what its manifest says.
    """
    plans = [_planned(a, device, runtimes) for a in artifacts if targets.get(a.target).device_build]
    opened = Store(store)
    try:
        jobs = _queued([plan.job for plan in plans], opened, force=force)
        ids = opened.add(jobs)
        waiting = asyncio.run(drain_shown(opened, ids, {device.name: device}, reporter))
        found = {row.key: row for row in opened.rows(ids)}
        return [
            _row(plan, job, found[job.key], waiting.get(device.name), opened)
            for plan, job in zip(plans, jobs, strict=True)
        ]
    finally:
        opened.close()


@dataclass(frozen=True)
class _Plan:
    artifact: Artifact
    target: Target
    build: DeviceBuild
    job: BuildJob


def _planned(artifact: Artifact, device: Device, runtimes: Mapping[str, str]) -> _Plan:
    target = targets.get(artifact.target)
    assert target.device_build is not None
    runtime = runtimes.get(str(target.device_runtime), "")
    build: DeviceBuild = target.load(target.device_build)(artifact.folder, runtime)
    known = {o.path: o.sha256 for o in artifact.manifest.outputs}
    files = []
    for name in build.files:
        path = artifact.folder / name
        digest = sha256_file(path)
        if known.get(name) != digest:
            raise DataError(
                f"{path}: is not the file its manifest tells of", hint="`datk verify` names all such; export again"
            )
        files.append(SentFile(name=name, path=str(path.resolve()), sha256=digest, bytes=size_bytes(path)))
    job = BuildJob.model_validate(
        {
            "device": device,
            "runtime": build.runtime,
            "artifact": artifact.id,
            "files": tuple(files),
            "script": build.script,
            "arguments": build.arguments,
            "results": tuple(WantedFile(name=n, limit=v) for n, v in build.results.items()),
            "answer": build.answer,
            "salt": runtimes.get(build.runtime, ""),
        }
    )
    return _Plan(artifact, target, build, job)


def _queued(jobs: Sequence[BuildJob], store: Store, *, force: bool) -> list[BuildJob]:
    """The jobs to run; where asked for, or where what a job made is gone, the same once more under another key."""
    if not force:
        rows = {row.key: row for row in store.rows(store.add(jobs))}
        gone = {k for k, r in rows.items() if r.state == "done" and not (store.results / r.folder).is_dir()}
    else:
        gone = {job.key for job in jobs}
    chosen = [_once_more(job) if job.key in gone else job for job in jobs]
    return chosen


def _once_more(job: BuildJob) -> BuildJob:
    return BuildJob.model_validate({**job.model_dump(), "salt": f"{job.salt} {secrets.token_hex(8)}"})


def _row(plan: _Plan, job: BuildJob, row: JobRow, waiting: str | None, store: Store) -> EngineRow:
    name, device = job.artifact, job.device
    if device.kind == "simulated" and row.state == "done":
        reason = [NO_FIGURE["simulated"]]
        return EngineRow(artifact=name, device=device.name, status="not measured", reasons=reason, simulated=True)
    if row.state != "done":
        refused = row.state == "failed" and row.error.startswith(f"{JobFailed.__name__}: ")
        words = row.error.split(": ", 1)[-1] if row.error else row.state
        reason = [(waiting or words) if row.state == "queued" else words]
        return EngineRow(
            artifact=name, device=device.name, status="rejected" if refused else "not measured", reasons=reason
        )
    results = store.results / row.folder
    report = read_built(results)
    assert report.work is not None
    judged: Judged = judge(plan.build, plan.artifact, results, adapters.get(device.kind).figures)
    contract = plan.artifact.manifest.contract
    assert contract is not None
    suspects = known_bad(plan.target, contract, {plan.build.runtime: judged.version})
    known = [s.sentence() for s in suspects if s.certain and s.tool == plan.build.runtime]
    if known and judged.status == "not measured":
        judged = replace(judged, status="rejected")  # only right answers speak for such a version
    folder = write_engine_stage(plan.build, plan.artifact, job, report, judged, results, known_bad=known)
    notes = [*judged.notes, *known]
    reasons = [*judged.reasons, *(known if judged.status == "rejected" else [])]
    return EngineRow(
        artifact=name,
        device=device.name,
        status=judged.status,
        reasons=reasons,
        notes=notes,
        folder=folder,
        metrics=judged.metrics,
    )


async def _probe(device: Device) -> dict[str, object]:
    async with adapters.get(device.kind).open(device) as session:
        return await session.probe()
