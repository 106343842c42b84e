"""What a device built, judged on this host from its maps, and the sealed stage 65-engine-ARTIFACT-DEVICE."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

import datk
from datk.artifact.files import sha256_file, size_bytes, write_json, write_text
from datk.artifact.manifest import InputRef, Manifest, Metric, Verdict, output_ref, write_manifest
from datk.artifact.provenance import datk_version, git_state
from datk.artifact.sums import write_sums
from datk.depth.io_spec import Size
from datk.evaluate.parity import ImageParity, compare_maps
from datk.farm import adapters
from datk.farm.adapters.base import Figures
from datk.farm.build_job import BuildJob
from datk.farm.errors import CorruptResult
from datk.farm.intake import BuildReport, read_told
from datk.measure.device import host_info
from datk.pipeline.build_stage import part_of, put_in_place
from datk.pipeline.farm.figures import NO_FIGURE
from datk.pipeline.runs import Artifact
from datk.targets.device_build import DeviceAnswer, DeviceBuild

PREFIX = "65-engine-"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The host's own verdict on what was built."""

    status: Literal["passed", "rejected", "not measured"]
    version: str
    """Of the runtime, in the script's words."""
    answer: DeviceAnswer
    told: dict[str, Any]
    """The script's whole JSON, without control characters."""
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    metrics: dict[str, Metric] = field(default_factory=dict)
    images: tuple[ImageParity, ...] = ()


def judge(build: DeviceBuild, artifact: Artifact, results: Path, figures: Figures) -> Judged:
    """Hold the device's maps of the golden inputs against the export's expected ones. What the script says of right
    and wrong does not count: a device never grades itself.

    Raises CorruptResult when answer or maps are not what the script writes.
    """
    told = read_told(results / build.answer)
    try:
        answer = DeviceAnswer.model_validate(told)
        version = str(told[build.runtime])[:100]
    except (ValidationError, KeyError, TypeError) as error:
        raise CorruptResult(f"{build.answer} is not what {build.script} writes: {str(error)[:300]}") from error
    images = _compared(build, artifact, results)
    metrics = _without_times(_metrics(build, artifact, answer, results, images), figures)
    if not images:
        reason = ["no golden inputs in the export: built and run, not compared"]
        return Judged(status="not measured", version=version, answer=answer, told=told, reasons=reason, metrics=metrics)
    least = build.least_correlation
    bad = [i for i in images if i.correlation is None or i.correlation < least]
    reasons = [
        f"{i.name}: {f'correlation {i.correlation:.6f}' if i.correlation is not None else i.undefined} with the "
        f"float32 answer, needed {least:g}"
        for i in bad
    ]
    if bad and answer.layers is not None:
        reasons.append(f"on the device, {answer.layers.detail}")
    notes = list(answer.notes)
    if (answer.status == "passed") == bool(bad):
        notes.append(f"the device called it {answer.status!r}; the host's own comparison counts")
    return Judged(
        status="rejected" if bad else "passed",
        version=version,
        answer=answer,
        told=told,
        reasons=reasons,
        notes=notes,
        metrics=metrics,
        images=images,
    )


def write_engine_stage(
    build: DeviceBuild,
    artifact: Artifact,
    job: BuildJob,
    report: BuildReport,
    judged: Judged,
    results: Path,
    *,
    known_bad: Sequence[str],
) -> Path:
    """Write the stage beside the export, which stays as it is, SHA256SUMS and all. Returns its folder."""
    folder = artifact.folder.parent / f"{PREFIX}{job.artifact}-{job.device.name}"
    part = part_of(folder)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for name in build.results:
        if name not in (build.maps, build.answer):
            _link(results / name, part / name)
    write_json(part / build.answer, judged.told)
    for name, text in build.written_here.items():
        write_text(part / name, text(judged.version))
    assert report.work is not None
    figures = adapters.get(job.device.kind).figures
    manifest = Manifest(
        stage=folder.name,
        key=job.key,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        inputs=[
            InputRef(
                role=artifact.folder.name,
                path=artifact.folder.name,
                sha256=sha256_file(artifact.folder / "manifest.json"),
            )
        ],
        outputs=[output_ref(p, relative_to=part) for p in sorted(part.iterdir())],
        section={"script": [build.script, *build.arguments]},
        contract=artifact.manifest.contract,
        tools={"datk": datk_version(), build.runtime: judged.version},
        git=git_state(Path(datk.__file__).parent),
        host=host_info(),
        metrics=judged.metrics,
        checks={"golden": _golden_record(judged, build)},
        facts={
            "artifact": build.product,
            "runs_instead": build.runs_instead,
            "export": artifact.folder.name,
            "target": artifact.target,
            "precision": artifact.precision,
            "device": job.device.name,
            "kind": job.device.kind,
            "figures": figures,
            "label": f"{job.device.name}: {build.runtime} {judged.version} on {report.device.machine}",
            "told": report.device.model_dump(mode="json"),
            "device_called_it": judged.answer.status,
            "clocks": judged.answer.clocks,
            "layers": judged.answer.layers.model_dump(mode="json") if judged.answer.layers else None,
            "sensors_before": report.work.sensors_before.model_dump(mode="json", exclude_none=True),
            "sensors_after": report.work.sensors_after.model_dump(mode="json", exclude_none=True),
            "notes": judged.notes,
            "known_bad": list(known_bad),
        },
        verdict=_verdict(judged, known_bad),
        failed_stage="engine" if judged.status == "rejected" else None,
        duration_s=round(report.wall_s, 3),
    )
    write_manifest(manifest, part)
    write_sums(part)
    put_in_place(part, folder)
    return folder


def _verdict(judged: Judged, known_bad: Sequence[str]) -> Verdict | None:
    if judged.status == "not measured":
        return None
    return Verdict(status=judged.status, reasons=[*judged.reasons, *(known_bad if judged.reasons else [])])


def _golden_record(judged: Judged, build: DeviceBuild) -> dict[str, Any]:
    status = {"passed": "passed", "rejected": "failed", "not measured": "not_measured"}[judged.status]
    worst = min((i.correlation for i in judged.images if i.correlation is not None), default=None)
    detail = "; ".join(judged.reasons) or (
        f"least correlation with the float32 answers {worst:.6f} over {len(judged.images)} photographs, needed "
        f"{build.least_correlation:g}; compared on this host"
    )
    return {"status": status, "detail": detail, "images": [i.model_dump(mode="json") for i in judged.images]}


def _compared(build: DeviceBuild, artifact: Artifact, results: Path) -> tuple[ImageParity, ...]:
    if build.maps is None or build.golden is None:
        return ()
    contract = artifact.manifest.contract
    assert contract is not None
    expected = _expected(artifact.folder / build.golden, artifact.folder, contract.input_size)
    maps = _read_maps(results / build.maps, expected.shape)
    return tuple(
        compare_maps(a, b, name=f"golden photograph {number}", kind=contract.depth_kind)
        for number, (a, b) in enumerate(zip(maps, expected, strict=True))
    )


def _expected(golden: Path, export: Path, size: Size) -> NDArray[np.float32]:
    """(n, h, w): the maps an export lays beside its golden inputs."""
    if golden.suffix == ".npz":
        with np.load(golden, allow_pickle=False) as stored:
            depth: NDArray[np.float32] = stored["depth"]
            return depth
    images = json.loads(golden.read_text(encoding="utf-8"))["images"]
    return np.stack([np.fromfile(export / image["float"], "<f4").reshape(size) for image in images])


def _read_maps(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A .npy of exactly that shape in float32; its header is read before any of it is believed.

    Raises CorruptResult.
    """
    from numpy.lib import format as npy

    try:
        with path.open("rb") as handle:
            if npy.read_magic(handle) != (1, 0):
                raise ValueError("another version of the format")
            found = npy.read_array_header_1_0(handle)
            if found != (shape, False, np.dtype("<f4")):
                raise ValueError(f"{found[2]} of shape {found[0]}, asked for float32 of {shape}")
            data = handle.read()
        return np.frombuffer(data, "<f4").reshape(shape)
    except ValueError as error:
        raise CorruptResult(f"{path.name}: {str(error)[:300]}") from error


def _metrics(
    build: DeviceBuild, artifact: Artifact, answer: DeviceAnswer, results: Path, images: tuple[ImageParity, ...]
) -> dict[str, Metric]:
    size = size_bytes(results / build.product if build.runs_instead else artifact.path)
    out = {"size_bytes": Metric(value=size, unit="bytes", n=1, higher_is_better=False)}
    defined = [i.correlation for i in images if i.correlation is not None]
    why = None if defined else "no golden map could be compared"
    for name, value in (
        ("correlation_vs_float_median", float(np.median(defined)) if defined else None),
        ("correlation_vs_float_worst", min(defined, default=None)),
    ):
        out[name] = Metric(value=value, unit="1", n=len(defined) or None, higher_is_better=True, not_measured=why)
    latency = answer.latency
    for short in ("p50_ms", "p90_ms", "p99_ms"):
        value = getattr(latency, short) if latency is not None else None
        out[f"latency_{short}"] = Metric(
            value=value,
            unit="ms",
            n=latency.n if latency is not None else None,
            higher_is_better=False,
            not_measured=None if latency is not None else "the script gave no times",
        )
    out["build_s"] = Metric(
        value=answer.build_s,
        unit="s",
        n=1 if answer.build_s is not None else None,
        higher_is_better=False,
        not_measured=None if answer.build_s is not None else "an engine of this model lay there",
    )
    return out


def _without_times(metrics: dict[str, Metric], figures: Figures) -> dict[str, Metric]:
    """Times of an emulated device are no device's."""
    reason = NO_FIGURE.get(figures)
    if reason is None:
        return metrics
    timed = {k for k in metrics if k.startswith("latency_") or k == "build_s"}
    return {k: Metric(value=None, unit=m.unit, not_measured=reason) if k in timed else m for k, m in metrics.items()}


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
