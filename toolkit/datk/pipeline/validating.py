"""`datk validate`: artifacts and checkpoints on a bench, against the float net where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datk.artifact.files import sha256_file, write_json
from datk.artifact.manifest import FILE_NAME, Metric, Verdict, read_manifest
from datk.depth.io_spec import Size
from datk.depth.runner import Runner
from datk.errors import CheckpointError
from datk.pipeline.bucket_cost import bucket_cost
from datk.pipeline.measuring import Clock, Setting, measure, open_bench
from datk.pipeline.models import find_artifact, open_model
from datk.pipeline.reference import float_net, reference, teacher_reference
from datk.pipeline.runs import STUDENT, artifacts_of, newest_run, run_of
from datk.pipeline.scenes import scene_figures
from datk.pipeline.stage import Reporter
from datk.pipeline.steps.photos import photo_set
from datk.pipeline.steps.teacher import spec_of
from datk.pipeline.teachers import teacher_digest

NO_REFERENCE = "no float reference: not part of a run and no --reference CHECKPOINT"


@dataclass(frozen=True)
class ValidateRequest:
    """What was typed."""

    models: tuple[Path, ...] = ()
    bench: str = "da2k"
    data: Path | None = None
    images: Path | None = None
    count: int = 64
    reference: Path | None = None
    teacher: str | None = None
    input_size: Size | None = None
    max_drop_pp: float = 1.0
    latency_runs: int = 30
    allow_few: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Judged:
    """One model, measured."""

    name: str
    path: Path
    label: str
    metrics: dict[str, Metric]
    details: dict[str, Any]
    verdict: Verdict | None


def models_of(request: ValidateRequest) -> tuple[list[Path], list[str]]:
    """The models to judge and what was taken by default, in words."""
    if request.models:
        return list(request.models), []
    run_dir = newest_run()
    found = [a.folder for a in artifacts_of(run_dir)]
    return found, [f"no model named: the {len(found)} artifacts of {run_dir}"]


def validate(request: ValidateRequest, models: Sequence[Path], *, reporter: Reporter) -> list[Judged]:
    """Measure each model. Raises EnvironmentLacks when the bench's data is absent, before any model is opened."""
    pairs = open_bench(request.bench, str(request.data) if request.data else None)
    photos = photo_set(
        str(request.images) if request.images else "builtin", "validation", request.count, seed=request.seed
    )
    setting = Setting(
        photos=photos.paths,
        bench=request.bench,
        pairs=pairs,
        max_drop_pp=request.max_drop_pp,
        latency_runs=request.latency_runs,
        allow_few=request.allow_few,
    )
    judged = []
    for model in models:
        artifact, target = find_artifact(model)
        name = (
            model.name if target is None or not (model / FILE_NAME).is_file() else model.name.removeprefix("50-export-")
        )
        reporter.stage(name, f"measure {name}", "running")
        runner = open_model(model, request.input_size)
        timed = open_model(model, request.input_size, for_latency=True)
        try:
            judged.append(
                _judge(name, artifact, runner, timed, setting, request, reporter, is_checkpoint=target is None)
            )
        finally:
            timed.close()
            runner.close()
        reporter.stage(name, f"measure {name}", "done")
    _keep(judged, request)
    return judged


def _judge(
    name: str,
    artifact: Path,
    runner: Runner,
    timed: Runner,
    setting: Setting,
    request: ValidateRequest,
    reporter: Reporter,
    *,
    is_checkpoint: bool,
) -> Judged:
    run_dir = run_of(artifact)
    base = _weights(request.reference, run_dir, STUDENT, "student.safetensors")
    if is_checkpoint and request.reference is None:
        base = None
    teacher = request.teacher or (spec_of(run_dir / "10-teacher") if run_dir is not None else None)
    size = runner.input_size
    precision, checks = "fp32", {}
    if (artifact.parent / FILE_NAME).is_file():
        manifest = read_manifest(artifact.parent)
        precision, checks = str(manifest.facts.get("precision", "fp32")), manifest.checks
    measured = measure(
        runner,
        setting,
        reference=reference(*base, size, "float student") if base else None,
        clock=Clock(candidate=timed, reference=float_net(*base, size, "float student")) if base else None,
        teacher=teacher_reference(teacher, teacher_digest(teacher), size, runner.depth_kind) if teacher else None,
        precision=precision,
        checks=checks,
        progress=reporter.progress,
        no_reference="a checkpoint is the float net itself" if is_checkpoint else NO_REFERENCE,
        no_teacher="no teacher: not part of a run that has one and no --teacher CHECKPOINT",
    )
    if base is not None:
        measured.metrics |= bucket_cost(*base, size, tuple(setting.photos))
    return Judged(name, artifact, runner.label, measured.metrics, measured.details, measured.verdict)


def _weights(named: Path | None, run_dir: Path | None, stage: str, file: str) -> tuple[Path, str] | None:
    """(checkpoint, its digest): the one named, else the run's."""
    path = named or (run_dir / stage / file if run_dir is not None else None)
    if path is None or (named is None and not path.is_file()):
        return None
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file", hint="name a .pth or .safetensors checkpoint")
    return path, sha256_file(path)


def _keep(judged: Sequence[Judged], request: ValidateRequest) -> None:
    """results in RUN/validate/BENCH-NAME.json for every model that lies in a run."""
    for item in judged:
        run_dir = run_of(item.path)
        if run_dir is not None:
            write_json(
                run_dir / "validate" / f"{request.bench}-{item.name}.json", as_json(item) | {"details": item.details}
            )


def as_json(item: Judged) -> dict[str, Any]:
    """For --json and for the kept file."""
    return {
        "name": item.name,
        "judged_by": item.label,
        "metrics": {k: v.model_dump(mode="json") for k, v in item.metrics.items()},
        "scenes": scene_figures(item.details),
        "verdict": item.verdict.model_dump(mode="json") if item.verdict else None,
    }
