"""Stage 60: after every export, the artifact against the float student and the teacher, and the bench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from datk.artifact.files import sha256_file, write_json
from datk.artifact.manifest import Dataset, Manifest
from datk.config.schema import PhotosSection, ValidateSection
from datk.depth.io_spec import Size
from datk.evaluate.cached_runner import CachedRunner
from datk.pipeline.bucket_cost import bucket_cost
from datk.pipeline.diagnosing import explain_rejection
from datk.pipeline.measuring import (
    Clock,
    Measured,
    Setting,
    input_path_distance,
    measure,
    open_bench,
    save_samples,
    unmeasured,
)
from datk.pipeline.reference import float_net, reference, teacher_reference
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps import qat
from datk.pipeline.steps.photos import PhotoSet, photo_set
from datk.pipeline.steps.teacher import spec_of
from datk.targets.base import Target

if TYPE_CHECKING:
    from datk.evaluate.torch_runner import TorchRunner

STUDENT = "30-student"
TEACHER = "10-teacher"
SELF = "reference: self; no teacher was named, the float student is the only reference"


def artifact(
    export: str, target: Target, precision: str, section: ValidateSection, photos: PhotosSection, stage: StageRun
) -> Outcome:
    """Measure one artifact, built by the stage `export`, on this machine, by the target's own runner.

    What this machine cannot run is left unverified: every figure of it is a record of the reason.
    """
    built = stage.manifest(export)
    assert built.contract is not None
    held_out, setting = _setting(section, photos, stage)
    if reason := target.cannot_run():
        return _not_run(reason, target, precision, built, held_out, setting, stage)
    path = stage.folder(export) / built.facts["artifact"]
    runner = target.open(path, built.contract)
    timed = target.open_for_latency(path, built.contract)
    try:
        student_net, teacher = _references(stage, runner.input_size)
        stand_in = target.stand_ins.get(timed.label, "")
        measured = measure(
            runner,
            setting,
            reference=student_net,
            clock=None if stand_in else Clock(candidate=timed, reference=_plain(stage, runner.input_size)),
            no_clock=stand_in,
            teacher=teacher,
            precision=precision,
            checks=built.checks,
            progress=stage.reporter.progress,
            no_teacher=SELF,
        )
        measured.metrics["size_bytes"] = built.metrics["size_bytes"]
        weights = _weights(stage, STUDENT, "student.safetensors")
        measured.metrics |= bucket_cost(*weights, runner.input_size, tuple(held_out.paths))
        facts: dict[str, Any] = {"target": target.name, "precision": precision, "label": runner.label}
        said, divergence = explain_rejection(
            path, target, stage.folder(qat.source_of(stage)) / qat.FILE, measured.details, setting.photos
        )
        if divergence and measured.verdict is not None:
            measured.verdict.reasons.extend(said)
            facts["divergence"] = divergence
        save_samples(stage.out / "samples.npz", runner, held_out.paths, reference=student_net, teacher=teacher)
        return _outcome(stage, measured, held_out, setting, facts, built)
    finally:
        timed.close()
        runner.close()


def _not_run(
    reason: str,
    target: Target,
    precision: str,
    built: Manifest,
    held_out: PhotoSet,
    setting: Setting,
    stage: StageRun,
) -> Outcome:
    """What can be told of an artifact without running it: its size, the cost of its bucket, its target's checks."""
    assert built.contract is not None
    has_teacher = TEACHER in stage.needs
    measured = unmeasured(
        reason,
        precision=precision,
        max_drop_pp=setting.max_drop_pp,
        checks=built.checks,
        has_teacher=has_teacher,
        no_teacher=SELF,
    )
    measured.metrics["size_bytes"] = built.metrics["size_bytes"]
    weights = _weights(stage, STUDENT, "student.safetensors")
    measured.metrics |= bucket_cost(*weights, built.contract.input_size, tuple(held_out.paths))
    facts = {"target": target.name, "precision": precision, "not_run": reason}
    return _outcome(stage, measured, held_out, setting, facts, built)


def student(size: Size, section: ValidateSection, photos: PhotosSection, stage: StageRun) -> Outcome:
    """The float student against the teacher, and how far the 8-bit input path moves it."""
    held_out, setting = _setting(section, photos, stage)
    net, teacher = _references(stage, size)
    measured = measure(
        net,
        setting,
        reference=None,
        clock=None,
        teacher=teacher,
        precision="fp32",
        checks={},
        progress=stage.reporter.progress,
        no_teacher=SELF,
    )
    measured.metrics["uint8_vs_float_input_rel"] = input_path_distance(_plain(stage, size), held_out.paths)
    distance = measured.metrics["uint8_vs_float_input_rel"].value
    if distance is not None:
        stage.reporter.note(f"8-bit input moves the float net by {distance:.2e} of its largest value (median)")
    facts = {"target": "torch", "precision": "fp32", "label": net.label}
    save_samples(stage.out / "samples.npz", net, held_out.paths, reference=None, teacher=teacher)
    return _outcome(stage, measured, held_out, setting, facts, None)


def _setting(section: ValidateSection, photos: PhotosSection, stage: StageRun) -> tuple[PhotoSet, Setting]:
    held_out = photo_set(photos.validation, "validation", photos.validation_count, seed=stage.seed)
    setting = Setting(
        photos=held_out.paths,
        bench=section.bench,
        pairs=open_bench(section.bench, section.data),
        max_drop_pp=section.max_bench_drop_pp,
        latency_runs=section.latency_runs,
        allow_few=section.allow_few,
    )
    return held_out, setting


def _references(stage: StageRun, size: Size) -> tuple[CachedRunner, CachedRunner | None]:
    """Float student and teacher, remembering their maps."""
    student_net = reference(*_weights(stage, STUDENT, "student.safetensors"), size, "float student")
    if TEACHER not in stage.needs:
        return student_net, None
    spec = spec_of(stage.folder(TEACHER))
    assert spec is not None, "the teacher's stage is finished"
    return student_net, teacher_reference(spec, stage.manifest(TEACHER).digest, size, student_net.depth_kind)


def _plain(stage: StageRun, size: Size) -> TorchRunner:
    return float_net(*_weights(stage, STUDENT, "student.safetensors"), size, "float student")


def _weights(stage: StageRun, name: str, file: str) -> tuple[Path, str]:
    return stage.folder(name) / file, stage.manifest(name).digest


def _outcome(
    stage: StageRun,
    measured: Measured,
    held_out: PhotoSet,
    setting: Setting,
    facts: dict[str, Any],
    built: Manifest | None,
) -> Outcome:
    write_json(stage.out / "details.json", measured.details)
    rejected = measured.verdict is not None and measured.verdict.status == "rejected"
    return Outcome(
        contract=built.contract if built else None,
        weights=stage.manifest(STUDENT).weights,
        datasets=[
            Dataset(name="validation", split_sha256=held_out.sha256, licence=held_out.licence, n=len(held_out.paths)),
            Dataset(
                name=f"bench {setting.bench}",
                split_sha256=sha256_file(setting.pairs.root / "annotations.json"),
                licence="as its README says",
                n=len(setting.pairs.images),
            ),
        ],
        metrics=measured.metrics,
        checks=built.checks if built else {},
        facts={**facts, "bench": setting.bench, "reference": "float student" if built else "none"},
        verdict=measured.verdict,
        failed_stage="validate" if rejected else None,
    )
