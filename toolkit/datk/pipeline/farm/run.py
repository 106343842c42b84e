"""`datk farm run`: queue, run, score, and a stage 70-farm-DEVICE for each device in the run folder."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import datk
from datk.artifact.files import sha256_file, sha256_json, write_json
from datk.artifact.manifest import InputRef, Manifest, Metric, Verdict, output_ref, write_manifest
from datk.artifact.provenance import datk_version, git_state
from datk.evaluate.device_verdict import DeviceVerdict
from datk.farm.inventory import Device
from datk.farm.scheduler import drain
from datk.farm.store import JobRow, Store
from datk.measure.device import host_info
from datk.pipeline.build_stage import put_in_place
from datk.pipeline.farm.brought_back import sent_file
from datk.pipeline.farm.device_verdicts import device_verdicts
from datk.pipeline.farm.request import FarmPlan, FarmRequest, Item
from datk.pipeline.farm.scoring import Row, failed_row, score, unscored
from datk.pipeline.stage import Reporter

PREFIX = "70-farm-"
TICK_S = 0.25
MANIFEST_METRICS = (
    "bench_accuracy", "correlation_vs_float_median", "latency_p50_ms", "load_ms", "peak_memory_bytes", "fallback_ops",
)  # fmt: skip
"""Of each artifact, in the stage's manifest; all of them stand in ARTIFACT.json."""


class FarmReporter(Reporter, Protocol):
    """A Reporter that also shows jobs as they run."""

    def jobs(self, rows: Sequence[JobRow], waiting: Sequence[str]) -> None:
        """Called often; waiting: devices that are set aside."""


@dataclass(frozen=True)
class FarmResult:
    """What a call left behind."""

    run_dir: Path
    rows: list[Row]
    stages: list[Path]
    verdicts: list[DeviceVerdict] = field(default_factory=list)
    """Which precision to ship on which of these devices."""

    @property
    def rejected(self) -> list[Row]:
        return [r for r in self.rows if r.status == "rejected"]

    @property
    def unmeasured(self) -> list[Row]:
        """Wanted and not had: a device that was out of reach. What it cannot run by its nature is not among them."""
        return [r for r in self.rows if r.status == "not measured" and r.figures != "simulated"]


def run_farm(request: FarmRequest, plan: FarmPlan, *, reporter: FarmReporter) -> FarmResult:
    """Run what the plan says. The same call again goes on where an earlier one, even a killed one, stopped."""
    started = time.perf_counter()
    store = Store(request.store)
    try:
        ids = store.add(plan.jobs)
        devices = {d.name: d for d in request.devices}
        waiting = asyncio.run(drain_shown(store, ids, devices, reporter))
        found = {row.key: row for row in store.rows(ids)}
        rows = [_row(item, found, waiting, store, plan, reporter) for item in plan.items]
        seconds = time.perf_counter() - started
        stages, verdicts = [], []
        for device in request.devices:
            values = _values(plan, device, [r for r in rows if r.device == device.name])
            told = device_verdicts(device, values.values())
            stages.append(_stage(plan, device, values, told, seconds))
            verdicts += told
        for row in rows:
            if row.key is not None and row.status in ("passed", "rejected"):
                store.record(_history(row, plan, request.release))
        return FarmResult(plan.run_dir, rows, stages, verdicts)
    finally:
        store.close()


async def drain_shown(
    store: Store, ids: list[int], devices: dict[str, Device], reporter: FarmReporter
) -> dict[str, str]:
    """Run the queued jobs and show them meanwhile. Returns device -> why its jobs still wait; see `drain`."""
    work = asyncio.create_task(drain(store, ids, devices))
    try:
        while not work.done():
            reporter.jobs(store.rows(ids), [q.device for q in store.quarantined()])
            await asyncio.wait({work}, timeout=TICK_S)
    except asyncio.CancelledError:
        work.cancel()
        await asyncio.wait({work})
        raise
    reporter.jobs(store.rows(ids), [q.device for q in store.quarantined()])
    return work.result()


def _row(
    item: Item, found: dict[str, JobRow], waiting: dict[str, str], store: Store, plan: FarmPlan, reporter: Reporter
) -> Row:
    if item.job is None:
        return unscored(item, "unsupported", item.unsupported)
    job = found[item.job.key]
    if job.state != "done":
        return failed_row(item, job, waiting.get(item.device.name))
    title = f"score {item.job.title}"
    reporter.stage(item.job.title, title, "running")
    row = score(item, store.results / job.folder, plan.run_dir, plan.setting, reporter)
    reporter.stage(item.job.title, title, "done")
    return row


def _values(plan: FarmPlan, device: Device, rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Rows by artifact; those of an earlier call are kept while their artifact is still the same file."""
    earlier = _earlier(plan.run_dir / f"{PREFIX}{device.name}", plan.run_dir, device)
    return {**earlier, **{r.artifact: r.as_json() for r in rows}}


def _stage(
    plan: FarmPlan,
    device: Device,
    values: Mapping[str, dict[str, Any]],
    verdicts: Sequence[DeviceVerdict],
    seconds: float,
) -> Path:
    """Write 70-farm-DEVICE."""
    folder = plan.run_dir / f"{PREFIX}{device.name}"
    part = folder.with_name(f".{folder.name}.part")
    part.mkdir(exist_ok=True)
    for old in part.iterdir():
        old.unlink()
    for name, value in values.items():
        write_json(part / f"{name}.json", value)
    judged = [v for v in values.values() if v["status"] in ("passed", "rejected")]
    bad = [f"{v['artifact']}: {reason}" for v in judged if v["status"] == "rejected" for reason in v["reasons"]]
    exports = [plan.run_dir / f"50-export-{name}" for name in values]
    manifest = Manifest(
        stage=folder.name,
        key=sha256_json([[v["artifact"], v["key"], v["status"]] for v in values.values()]),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        inputs=[
            InputRef(role=e.name, path=e.name, sha256=sha256_file(e / "manifest.json")) for e in exports if e.is_dir()
        ],
        outputs=[output_ref(p, relative_to=part) for p in sorted(part.iterdir())],
        section={"bench": plan.setting.bench},
        contract=None,
        tools={"datk": datk_version()},
        git=git_state(Path(datk.__file__).parent),
        host=host_info(),
        metrics={
            f"{v['artifact']}: {name}": Metric.model_validate(v["metrics"][name])
            for v in values.values()
            for name in (
                "bench_accuracy",
                "correlation_vs_float_median",
                "latency_p50_ms",
                "load_ms",
                "peak_memory_bytes",
            )
            if name in v["metrics"]
        },
        facts={
            "device": device.name,
            "kind": device.kind,
            "labels": list(device.labels),
            "controlled": device.controlled,
            "artifacts": {v["artifact"]: v["status"] for v in values.values()},
            "verdicts": {f"{v.target} {v.input_size[0]}x{v.input_size[1]}": v.headline for v in verdicts},
        },
        verdict=Verdict(status="rejected" if bad else "passed", reasons=bad) if judged else None,
        failed_stage="farm" if bad else None,
        duration_s=round(seconds, 3),
    )
    write_manifest(manifest, part)
    put_in_place(part, folder)
    return folder


def _earlier(folder: Path, run_dir: Path, device: Device) -> dict[str, dict[str, Any]]:
    from datk.pipeline.runs import artifacts_of

    if not folder.is_dir():
        return {}
    now = {a.id: sha256_file(sent_file(a, device)) for a in artifacts_of(run_dir)}
    kept = {}
    for path in sorted(folder.glob("*.json")):
        if path.stem in now:
            value = json.loads(path.read_text(encoding="utf-8"))
            if value.get("sha256") == now[path.stem]:
                kept[path.stem] = value
    return kept


def _history(row: Row, plan: FarmPlan, release: str) -> dict[str, Any]:
    git = git_state(Path(datk.__file__).parent)
    return {
        "key": f"{row.key}:{plan.setting.bench}",
        "run": plan.run_dir.name,
        "release": release,
        "git_commit": str(git["commit"]) if git else "",
        "device": row.device,
        "artifact": row.artifact,
        "sha256": row.sha256,
        "figures": row.figures,
        "verdict": row.status,
        "reasons": row.reasons,
        "metrics": {k: m.model_dump(mode="json") for k, m in row.metrics.items()},
    }
