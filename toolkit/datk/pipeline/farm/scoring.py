"""A device's maps, scored on this host by the one evaluator, and the verdict of one artifact on one device."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datk.artifact.manifest import FILE_NAME, Metric, Verdict, read_manifest
from datk.farm import adapters
from datk.farm.errors import JobFailed
from datk.farm.intake import DeviceResult, maps_of, read_result
from datk.farm.store import JobRow
from datk.pipeline.farm.figures import NO_FIGURE, figures_of, round_medians, throttling
from datk.pipeline.farm.inputs import RecordedRunner
from datk.pipeline.farm.request import Item
from datk.pipeline.measuring import Setting, measure
from datk.pipeline.reference import reference, teacher_reference
from datk.pipeline.runs import STUDENT
from datk.pipeline.stage import Reporter
from datk.pipeline.steps.teacher import spec_of
from datk.pipeline.teachers import teacher_digest

TEACHER = "10-teacher"
Status = Literal["passed", "rejected", "not measured", "unsupported"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One artifact on one device, judged or with the reason why not."""

    artifact: str
    target: str
    precision: str
    device: str
    label: str
    figures: str
    sha256: str | None = None
    key: str | None = None
    input_size: tuple[int, int] | None = None
    beside: str | None = None
    """sha256 of the baseline it took turns with."""
    status: Status
    reasons: list[str] = field(default_factory=list)
    metrics: dict[str, Metric] = field(default_factory=dict)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """JSON values; what the run folder keeps."""
        return {**vars(self), "metrics": {k: m.model_dump(mode="json") for k, m in self.metrics.items()}}


def unscored(item: Item, status: Status, reason: str) -> Row:
    """A row without figures."""
    a = item.artifact
    figures = adapters.get(item.device.kind).figures
    checks = {}
    if status == "rejected":
        checks["load"] = {"status": "failed", "detail": reason}
    return Row(
        artifact=a.id,
        target=a.target,
        precision=a.precision,
        device=item.device.name,
        label=f"{item.device.name}: nobody yet",
        figures=figures,
        sha256=item.job.candidate.sha256 if item.job else None,
        key=item.job.key if item.job else None,
        status=status,
        reasons=[reason],
        checks=checks,
    )


def failed_row(item: Item, job: JobRow, waiting: str | None) -> Row:
    """A job that did not come to a result: refused by the runtime, which rejects, or not run, which says nothing."""
    if job.state == "failed" and job.error.startswith(f"{JobFailed.__name__}: "):
        return unscored(item, "rejected", job.error.removeprefix(f"{JobFailed.__name__}: "))
    words = job.error.split(": ", 1)[-1] if job.error else ""
    return unscored(item, "not measured", (waiting if job.state == "queued" else words) or job.state)


def score(item: Item, folder: Path, run_dir: Path, setting: Setting, reporter: Reporter) -> Row:
    """Judge a verified result. Raises what the evaluator raises."""
    assert item.job is not None and item.inputs is not None
    result = read_result(folder)
    assert result.work is not None
    adapter = adapters.get(item.device.kind)
    a = item.artifact
    metrics, checks = figures_of(item.job, result, adapter.figures)
    label = label_of(item, result)
    details = _details(result) | {"engine": item.engine}
    base: dict[str, Any] = {
        "artifact": a.id,
        "target": a.target,
        "precision": a.precision,
        "device": item.device.name,
        "label": label,
        "figures": adapter.figures,
        "sha256": item.job.candidate.sha256,
        "key": item.job.key,
        "input_size": item.job.candidate.contract.input_size,
        "beside": item.job.parts[1].sha256 if len(item.job.parts) > 1 else None,
    }
    if adapter.figures == "simulated":
        reason = NO_FIGURE["simulated"]
        return Row(**base, status="not measured", reasons=[reason], metrics=metrics, checks=checks, details=details)
    contract = item.job.candidate.contract
    runner = RecordedRunner(
        name=f"{base['artifact']} on {item.device.name}",
        label=label,
        input_size=contract.input_size,
        depth_kind=contract.depth_kind,
        maps=maps_of(result, folder),
        rows=item.inputs.rows,
    )
    student, teacher = _weights(run_dir, STUDENT, "student.safetensors"), spec_of(run_dir / TEACHER)
    assert student is not None
    size = contract.input_size
    measured = measure(
        runner,
        setting,
        reference=reference(*student, size, "float student"),
        clock=None,
        teacher=(teacher_reference(teacher, teacher_digest(teacher), size, contract.depth_kind) if teacher else None),
        precision=a.precision,
        checks=checks,
        progress=reporter.progress,
        no_teacher="this run has no teacher",
    )
    assert measured.verdict is not None
    verdict: Verdict = measured.verdict
    assert verdict.status != "unverified", "its maps lie here"
    return Row(
        **base,
        status=verdict.status,
        reasons=list(verdict.reasons),
        metrics={**measured.metrics, **metrics},
        checks=checks,
        details={**measured.details, **details},
    )


def label_of(item: Item, result: DeviceResult) -> str:
    """Who computed: device, runtime, machine; and whether it was a device at all."""
    assert result.work is not None
    figures = adapters.get(item.device.kind).figures
    tail = (", the engine built there" if item.engine else "") + ("" if figures == "measured" else f", {figures}")
    return f"{item.device.name}: {result.work.runtime} on {result.device.machine}{tail}"


def _weights(run_dir: Path, stage: str, file: str) -> tuple[Path, str] | None:
    if not (run_dir / stage / FILE_NAME).is_file():
        return None
    return run_dir / stage / file, read_manifest(run_dir / stage).digest


def _details(result: DeviceResult) -> dict[str, Any]:
    """What the device told, as it told it."""
    work = result.work
    assert work is not None
    return {
        "device": result.device.model_dump(mode="json"),
        "runtime": work.runtime,
        "sensors_before": work.sensors_before.model_dump(mode="json", exclude_none=True),
        "sensors_after": work.sensors_after.model_dump(mode="json", exclude_none=True),
        "memory": work.memory.model_dump(mode="json"),
        "placement": {p.role: p.placement or p.no_placement for p in work.parts},
        "as_timed_there": {
            p.role: {
                "load_ms": p.load_ms,
                "first_run_ms": p.first_run_ms,
                "round_medians_ms": [float(v) for v in round_medians(p)],
            }
            for p in work.parts
        },
        "benchmark_binary": work.parts[0].benchmark.model_dump() if work.parts[0].benchmark else None,
        "throttling": throttling(result),
        "predictions_float32_sha256": work.predictions.float32_sha256,
        "log": result.log,
    }
