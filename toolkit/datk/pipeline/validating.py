"""`datk validate`: models side by side on a benchmark, and artifacts against the float net they were made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datk.artifact.files import sha256_file, write_json
from datk.artifact.manifest import FILE_NAME, Metric, Verdict, read_manifest
from datk.depth.io_spec import Size
from datk.depth.runner import Runner
from datk.errors import CheckpointError, EnvironmentLacks
from datk.evaluate.benchmarks.pairs import BenchResult
from datk.evaluate.benchmarks.source import BUCKET
from datk.evaluate.benchmarks.task import BenchTask, PairTask, TaskRequest, open_task
from datk.evaluate.gate_rules import parse_rule
from datk.evaluate.predictions import is_predictions
from datk.pipeline.bucket_cost import bucket_cost
from datk.pipeline.diagnosing import explain_rejection
from datk.pipeline.judging import CACHE, Contender, Scored, contenders_of, judge
from datk.pipeline.measuring import Clock, Measured, Setting, measure, unmeasured
from datk.pipeline.models import find_artifact, open_model
from datk.pipeline.reference import float_net, reference, teacher_reference
from datk.pipeline.runs import EXPORT_PREFIX, STUDENT, artifacts_of, newest_run, run_of
from datk.pipeline.scenes import scene_figures
from datk.pipeline.side_by_side import Compared, compare_all
from datk.pipeline.side_by_side import as_json as compared_json
from datk.pipeline.stage import Reporter
from datk.pipeline.steps.photos import photo_set
from datk.pipeline.steps.teacher import spec_of
from datk.pipeline.teachers import teacher_digest

NO_REFERENCE = "no float reference: not part of a run and no --reference CHECKPOINT"
NO_TEACHER = "no teacher: not part of a run that has one and no --teacher CHECKPOINT"


@dataclass(frozen=True)
class ValidateRequest:
    """What was typed."""

    models: tuple[Path, ...] = ()
    bench: str = "da2k"
    data: Path | None = None
    listing: Path | None = None
    masks: Path | None = None
    images: Path | None = None
    count: int = 64
    reference: Path | None = None
    teacher: str | None = None
    input_size: Size | None = None
    sizes: tuple[str, ...] = ()
    """The resolution study: each N by the official rule, each HxW a bucket."""
    max_drop_pp: float = 1.0
    gates: tuple[str, ...] = ()
    versus: str | None = None
    latency_runs: int = 30
    allow_few: bool = False
    jobs: int = 1
    cache: Path | None = CACHE
    seed: int = 0

    @property
    def task(self) -> TaskRequest:
        return TaskRequest(bench=self.bench, data=self.data, listing=self.listing, masks=self.masks)


@dataclass(frozen=True)
class Judged:
    """One model, measured, or with the reason why not."""

    name: str
    path: Path
    label: str
    metrics: dict[str, Metric]
    details: dict[str, Any]
    verdict: Verdict | None
    compared: Compared | None = field(repr=False)
    """None when this machine cannot run it."""
    not_run: str = ""
    """Why it cannot; empty when it was run."""


def models_of(request: ValidateRequest) -> tuple[list[Path], list[str]]:
    """The models to judge and what was taken by default, in words."""
    if request.models:
        return list(request.models), []
    run_dir = newest_run()
    found = [a.folder for a in artifacts_of(run_dir)]
    return found, [f"no model named: the {len(found)} artifacts of {run_dir}"]


def validate(request: ValidateRequest, models: Sequence[Path], *, reporter: Reporter) -> list[Judged]:
    """Score every model, compare them, and measure artifacts of point-pair benchmarks against their float net.

    An artifact that this machine cannot run is left unverified, with the reason. Raises UsageError for a rule, model or
    size that cannot be, and EnvironmentLacks when the benchmark's data is absent or not one of the models can be run,
    all before any model is opened.
    """
    rules = [parse_rule(text) for text in request.gates]
    task = open_task(request.task)
    named = _contenders(request, models)
    for contender in named:
        contender.digest()
    not_run = {c.name: reason for c in named if (reason := _cannot_run(c))}
    contenders = [c for c in named if c.name not in not_run]
    if not contenders:
        lines = "\n".join(f"  {name}: {reason}" for name, reason in not_run.items())
        raise EnvironmentLacks(
            f"nothing measured: this machine can run none of the models\n{lines}", hint="run it where they are made for"
        )
    scored: list[Scored] = []
    floats: list[Scored | None] = []
    known: dict[tuple[Path, Size | None], Scored] = {}
    for contender in contenders:
        reporter.stage(contender.name, f"score {contender.name}", "running")
        scored.append(_score(contender, request, task, reporter))
        base = _base(contender, request)
        size = scored[-1].who.input_size if scored[-1].who.path.startswith(BUCKET) else None
        if base is not None and (base[0], size) not in known:
            float_net_ = Contender(name="float student", spec=str(base[0]), size=size)
            known[base[0], size] = _score(float_net_, request, task, reporter)
        floats.append(known[base[0], size] if base is not None else None)
        reporter.stage(contender.name, f"score {contender.name}", "done")
    compared = compare_all(scored, rules, floats=floats, versus=request.versus)
    photos = _photos(request, task, contenders)
    judged = []
    for contender, item, base_scored in zip(contenders, compared, floats, strict=True):
        measured = Measured()
        if isinstance(task, PairTask) and isinstance(item.result, BenchResult):
            setting = Setting(
                photos=photos,
                bench=request.bench,
                pairs=task.pairs,
                max_drop_pp=request.max_drop_pp,
                latency_runs=request.latency_runs,
                allow_few=request.allow_few,
            )
            measured = _measure(contender, item.result, base_scored, setting, request, reporter)
        verdict = _with_rules(measured.verdict, item)
        judged.append(
            Judged(
                contender.name,
                Path(contender.spec),
                item.scored.who.label,
                measured.metrics,
                measured.details,
                verdict,
                item,
            )
        )
    left = {c.name: _not_run(c, not_run[c.name], request) for c in named if c.name in not_run}
    measured_here = {item.name: item for item in judged}
    judged = [left.get(c.name) or measured_here[c.name] for c in named]
    _keep(judged, request)
    return judged


def _cannot_run(contender: Contender) -> str:
    """Why this machine cannot run a model; empty for one it can, and for maps computed elsewhere."""
    if is_predictions(contender.spec):
        return ""
    target = find_artifact(Path(contender.spec))[1]
    return target.cannot_run() if target is not None else ""


def _not_run(contender: Contender, reason: str, request: ValidateRequest) -> Judged:
    artifact = find_artifact(Path(contender.spec))[0]
    precision, checks = _made(artifact)
    measured = unmeasured(
        reason,
        precision=precision,
        max_drop_pp=request.max_drop_pp,
        checks=checks,
        has_teacher=_teacher(contender, request) is not None,
        no_teacher=NO_TEACHER,
    )
    return Judged(
        name=contender.name,
        path=Path(contender.spec),
        label="nobody",
        metrics=measured.metrics,
        details=measured.details,
        verdict=measured.verdict,
        compared=None,
        not_run=reason,
    )


def _made(artifact: Path) -> tuple[str, Mapping[str, Mapping[str, Any]]]:
    """(precision, checks of its target), as the manifest beside an artifact says; fp32 and none without one."""
    if not (artifact.parent / FILE_NAME).is_file():
        return "fp32", {}
    manifest = read_manifest(artifact.parent)
    return str(manifest.facts.get("precision", "fp32")), manifest.checks


def _contenders(request: ValidateRequest, models: Sequence[Path]) -> list[Contender]:
    specs = [str(m) for m in models]
    contenders = contenders_of(specs, sizes=request.sizes, name_of=_short_name)
    if request.input_size is None:
        return contenders
    return [Contender(name=c.name, spec=c.spec, size=request.input_size) for c in contenders]


def _short_name(spec: str) -> str:
    path = Path(spec)
    if is_predictions(spec):
        return Path(spec.partition(",")[0].partition(":")[2]).name
    return path.name.removeprefix(EXPORT_PREFIX) if (path / FILE_NAME).is_file() else path.name or spec


def _score(contender: Contender, request: ValidateRequest, task: BenchTask, reporter: Reporter) -> Scored:
    return judge(contender, request.task, task, jobs=request.jobs, cache=request.cache, progress=reporter.progress)


def _base(contender: Contender, request: ValidateRequest) -> tuple[Path, str] | None:
    """(float checkpoint, its digest) that a model is compared with: --reference, else the float student of its run."""
    if is_predictions(contender.spec):
        return _weights(request.reference, None, STUDENT, "")
    artifact, target = find_artifact(Path(contender.spec))
    if target is None and request.reference is None:
        return None
    return _weights(request.reference, run_of(artifact), STUDENT, "student.safetensors")


def _teacher(contender: Contender, request: ValidateRequest) -> str | None:
    if is_predictions(contender.spec):
        return None
    run_dir = run_of(find_artifact(Path(contender.spec))[0])
    return request.teacher or (spec_of(run_dir / "10-teacher") if run_dir is not None else None)


def _photos(request: ValidateRequest, task: BenchTask, contenders: Sequence[Contender]) -> Sequence[Path]:
    """Photographs for the dense comparison, when one of the models has something to be compared with."""
    wanted = isinstance(task, PairTask) and any(_base(c, request) or _teacher(c, request) for c in contenders)
    if not wanted:
        return ()
    images = str(request.images) if request.images else "builtin"
    return photo_set(images, "validation", request.count, seed=request.seed).paths


def _measure(
    contender: Contender,
    result: BenchResult,
    base_scored: Scored | None,
    setting: Setting,
    request: ValidateRequest,
    reporter: Reporter,
) -> Measured:
    base, teacher = _base(contender, request), _teacher(contender, request)
    plain = is_predictions(contender.spec)
    artifact, target = (Path(contender.spec), None) if plain else find_artifact(Path(contender.spec))
    no_reference = "a checkpoint is the float net itself" if target is None else NO_REFERENCE
    no_reference = "maps computed elsewhere" if plain else no_reference
    if plain or (base is None and teacher is None):
        return measure(
            None,
            setting,
            reference=None,
            clock=None,
            teacher=None,
            precision="fp32",
            checks={},
            progress=reporter.progress,
            no_reference=no_reference,
            no_teacher=NO_TEACHER,
            scored=result,
        )
    reporter.stage(contender.name, f"measure {contender.name}", "running")
    precision, checks = _made(artifact)
    runner = contender.open()
    timed: Runner = open_model(Path(contender.spec), contender.size, for_latency=True, short_side=contender.short_side)
    try:
        size = runner.input_size
        base_result = base_scored.result if base_scored is not None else None
        stand_in = target.stand_ins.get(timed.label, "") if target is not None else ""
        beside = float_net(*base, size, "float student") if base and not stand_in else None
        measured = measure(
            runner,
            setting,
            reference=reference(*base, size, "float student") if base else None,
            clock=Clock(candidate=timed, reference=beside) if beside is not None else None,
            no_clock=stand_in,
            teacher=teacher_reference(teacher, teacher_digest(teacher), size, runner.depth_kind) if teacher else None,
            precision=precision,
            checks=checks,
            progress=reporter.progress,
            no_reference=no_reference,
            no_teacher=NO_TEACHER,
            scored=result,
            reference_scored=base_result if isinstance(base_result, BenchResult) else None,
        )
        if base is not None:
            measured.metrics |= bucket_cost(*base, size, tuple(setting.photos))
        if base is not None and target is not None and measured.verdict is not None:
            said, divergence = explain_rejection(artifact, target, base[0], measured.details, setting.photos)
            measured.verdict.reasons.extend(said)
            measured.details |= {"divergence": divergence} if divergence else {}
    finally:
        timed.close()
        runner.close()
    reporter.stage(contender.name, f"measure {contender.name}", "done")
    return measured


def _with_rules(verdict: Verdict | None, item: Compared) -> Verdict | None:
    """The verdict of the built-in gates and that of --gate, together."""
    if not item.gates:
        return verdict
    failed = [g.detail for g in item.gates if g.status == "failed"]
    before = verdict.reasons if verdict else []
    rejected = bool(failed) or (verdict is not None and verdict.status == "rejected")
    return Verdict(status="rejected" if rejected else "passed", reasons=[*failed, *before])


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
        run_dir = None if is_predictions(str(item.path)) else run_of(item.path)
        if run_dir is not None:
            name = item.name.replace("/", "-")
            write_json(run_dir / "validate" / f"{request.bench}-{name}.json", as_json(item) | {"details": item.details})


def as_json(item: Judged) -> dict[str, Any]:
    """For --json and for the kept file."""
    told = {"name": item.name, "judged_by": None, "not_measured": item.not_run}
    return {
        **(compared_json(item.compared) if item.compared is not None else told),
        "metrics": {k: v.model_dump(mode="json") for k, v in item.metrics.items()},
        "scenes": scene_figures(item.details),
        "verdict": item.verdict.model_dump(mode="json") if item.verdict else None,
    }
