"""The typed summary of a run, read from its manifests: what report.json holds and every page is made from."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from datk.artifact.manifest import FILE_NAME, Dataset, Manifest, Metric, OutputRef, Weights, read_manifest
from datk.artifact.promotion import Promoted, read_promoted
from datk.artifact.provenance import datk_version
from datk.depth.io_spec import Contract
from datk.errors import DataError, UsageError
from datk.evaluate.target_verdict import STAGE_PREFIX, TargetVerdict, read_verdict
from datk.report.farm_rows import ENGINE_PREFIX, PREFIX, device_rows, engine_row
from datk.report.seeds import SeedsSaid, seeds_said
from datk.targets.base import PRECISIONS

ROUTE = {
    "05-synthetic": "Synthetic images with exact depth",
    "10-teacher": "Teacher, trained on synthetic images alone",
    "20-pseudo-labels": "Pseudo-labels on real photographs, by the teacher",
    "30-student": "Student, distilled from pseudo-labels alone",
    "35-calibration": "Calibration photographs, pseudo-labelled",
    "60-validate-student": "Float student against the teacher and the bench",
}
"""Stages every full run has, in order. Quantise, export and validate come once per target and precision."""
_PREFIXES = {
    "38-qat-": "Train under int8 of",
    "40-quantize-": "Quantise",
    "50-export-": "Export",
    "60-validate-": "Validate",
    STAGE_PREFIX: "Which to ship:",
    "67-pack-": "All sizes in one artifact:",
    "65-engine-": "Build on device",
    "70-farm-": "On device",
}

StageStatus = Literal["done", "failed", "not run", "unfinished", "unreadable"]
VerdictStatus = Literal["passed", "rejected", "unverified", "not validated", "reference"]


class _Summary(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stage(_Summary):
    """One stage folder, whether it ran or not."""

    folder: str
    title: str
    status: StageStatus
    detail: str = ""
    """Why it is not done, in words."""
    created_at: str | None = None
    duration_s: float | None = None
    seed: int | None = None
    metrics: dict[str, Metric] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict)
    datasets: list[Dataset] = Field(default_factory=list)
    weights: list[Weights] = Field(default_factory=list)


class Check(_Summary):
    """A target's own check of its artifact."""

    name: str
    status: str
    detail: str = ""
    figures: dict[str, Any] = Field(default_factory=dict)


class Scene(_Summary):
    """One scene of a pairwise bench."""

    name: str
    accuracy_percent: float | None
    """None when no pair of the scene could be scored."""
    n: int
    interval95: tuple[float, float] | None = None


class Artifact(_Summary):
    """One exported artifact (or the float student, as the reference row) and what was found about it."""

    id: str
    """TARGET-PRECISION, or "student"."""
    target: str
    precision: str
    judged_by: str | None = None
    """Label of the runner behind every figure; None when it was not validated."""
    reference: str | None = None
    verdict: VerdictStatus
    reasons: list[str] = Field(default_factory=list)
    metrics: dict[str, Metric] = Field(default_factory=dict)
    contract: Contract | None = None
    checks: list[Check] = Field(default_factory=list)
    files: list[OutputRef] = Field(default_factory=list)
    scenes: list[Scene] = Field(default_factory=list)
    facts: dict[str, Any] = Field(default_factory=dict)


class RunSummary(_Summary):
    """Everything the report says, before it is laid out."""

    schema_version: Literal[1] = 1
    recipe: str
    run: str
    """Name of the run folder."""
    created_at: str
    """Of the newest stage."""
    datk_version: str
    commits: list[str]
    """Distinct commits the stages were made from, newest first; "+changes" when the checkout was dirty."""
    hosts: list[dict[str, Any]]
    tools: dict[str, str]
    artifacts: list[Artifact]
    student: Artifact | None
    on_devices: list[Artifact] = Field(default_factory=list)
    """The same artifacts on devices of the farm; facts.device names which."""
    verdicts: list[TargetVerdict] = Field(default_factory=list)
    """Which precision of each target to ship, and why."""
    device_verdicts: list[str] = Field(default_factory=list)
    """The same on devices of the farm, by their own times: one sentence a target and device."""
    promoted: list[Promoted] = Field(default_factory=list)
    """What the run stands behind: by verdict, or by whoever overrode it."""
    seeds: list[SeedsSaid] = Field(default_factory=list)
    """How much int8 depends on which photographs calibrated it, one a target and size that was quantised."""
    stages: list[Stage]
    notes: list[str]
    """What could not be read or shown, in words."""

    def count(self, status: VerdictStatus) -> int:
        """Artifacts with this verdict; the float student is not one."""
        return sum(artifact.verdict == status for artifact in self.artifacts)


def json_safe(value: Any) -> Any:
    """value with non-finite floats as the words "nan", "inf", "-inf": JSON has no such numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    return value


def _sound(metrics: dict[str, Metric]) -> dict[str, Metric]:
    """A figure that is not a finite number is no figure: it becomes a not-measured record that says so."""
    sound = {}
    for name, metric in metrics.items():
        if metric.value is not None and not math.isfinite(metric.value):
            metric = Metric(value=None, unit=metric.unit, n=metric.n, not_measured=f"came out as {metric.value}")
        elif metric.value is None and not metric.not_measured:
            metric = metric.model_copy(update={"not_measured": "no reason recorded"})
        sound[name] = metric
    return sound


def _title(folder: str) -> str:
    for prefix, verb in _PREFIXES.items():
        if folder not in ROUTE and folder.startswith(prefix):
            return f"{verb} {folder.removeprefix(prefix)}"
    return ROUTE.get(folder, folder)


def _stage(folder: Path) -> tuple[Stage, Manifest | None]:
    """A folder of the run as a stage; a missing or damaged manifest is a status, not a crash."""
    title = _title(folder.name)
    if not (folder / FILE_NAME).is_file():
        detail = "folder without a manifest: the stage was interrupted; run the recipe again to continue"
        return Stage(folder=folder.name, title=title, status="unfinished", detail=detail), None
    try:
        manifest = read_manifest(folder)
    except DataError as error:
        return Stage(folder=folder.name, title=title, status="unreadable", detail=error.message), None
    stage = Stage(
        folder=folder.name,
        title=title,
        status="failed" if manifest.failed_stage else "done",
        detail=f"failed in {manifest.failed_stage}" if manifest.failed_stage else "",
        created_at=manifest.created_at,
        duration_s=manifest.duration_s if math.isfinite(manifest.duration_s) else None,
        seed=manifest.seed,
        metrics=_sound(manifest.metrics),
        facts=json_safe(manifest.facts),
        datasets=manifest.datasets,
        weights=manifest.weights,
    )
    return stage, manifest


def _failures(run_dir: Path) -> dict[str, str]:
    """Stages whose last attempt a target refused, with its words: failed.json in a stage's unfinished folder."""
    found = {}
    for path in sorted(run_dir.glob(".[0-9][0-9]-*.part/failed.json")):
        try:
            words = str(json.loads(path.read_text(encoding="utf-8"))["error"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            words = f"failed.json is not readable ({type(error).__name__})"
        found[path.parent.name.removeprefix(".").removesuffix(".part")] = words
    return found


def _failed(folder: str, words: str) -> Stage:
    return Stage(folder=folder, title=_title(folder), status="failed", detail=words)


def split_artifact_id(name: str) -> tuple[str, str]:
    """("tflite", "int8-weights") from "tflite-int8-weights": the longest known precision ends the name."""
    for precision in sorted(PRECISIONS, key=len, reverse=True):
        if name.endswith(f"-{precision}"):
            return name.removesuffix(f"-{precision}"), precision
    return name, "unknown"


def _scenes(folder: Path, notes: list[str]) -> list[Scene]:
    """Per-scene bench figures of a validate stage: details.json, bench.scenes = {name: {accuracy_percent, n, …}}."""
    path = folder / "details.json"
    if not path.is_file():
        return []
    try:
        bench = (json.loads(path.read_text(encoding="utf-8")) or {}).get("bench") or {}
        return [
            Scene(
                name=str(name),
                accuracy_percent=scene["accuracy_percent"],
                n=scene["n"],
                interval95=scene.get("interval95"),
            )
            for name, scene in (bench.get("scenes") or {}).items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        notes.append(f"{folder.name}/details.json: per-scene figures not shown ({type(error).__name__}: {error})")
        return []


def _check(name: str, value: dict[str, Any]) -> Check:
    figures = {key: item for key, item in value.items() if key not in ("status", "detail")}
    status = str(value.get("status", "not_measured"))
    return Check(name=name, status=status, detail=str(value.get("detail", "")), figures=json_safe(figures))


def _artifact(name: str, export: Manifest | None, validate: Manifest | None, scenes: list[Scene]) -> Artifact:
    """One row: export says what it is, validate how good it is; either may be absent."""
    facts: dict[str, Any] = {**(export.facts if export else {}), **(validate.facts if validate else {})}
    target, precision = split_artifact_id(name) if name != "student" else ("student", "fp32")
    checks = {**(export.checks if export else {}), **(validate.checks if validate else {})}
    verdict = (validate.verdict if validate else None) or (export.verdict if export else None)
    status: VerdictStatus = verdict.status if verdict else "not validated"
    if name == "student":
        status = verdict.status if verdict else "reference"
    return Artifact(
        id=name,
        target=str(facts.get("target", target)),
        precision=str(facts.get("precision", precision)),
        judged_by=str(facts["label"]) if validate and facts.get("label") else None,
        reference=str(facts["reference"]) if facts.get("reference") else None,
        verdict=status,
        reasons=list(verdict.reasons) if verdict else ([] if validate else ["validate has not run"]),
        metrics=_sound(validate.metrics if validate else {}),
        contract=(export.contract if export else None) or (validate.contract if validate else None),
        checks=[_check(key, value) for key, value in checks.items()],
        files=list(export.outputs) if export else [],
        scenes=scenes,
        facts=json_safe(facts),
    )


def _verdicts(folders: list[Path], notes: list[str]) -> list[TargetVerdict]:
    """Of every 65-verdict stage that is done; a damaged one is a note."""
    found = []
    for folder in sorted(folders):
        try:
            found.append(read_verdict(folder))
        except DataError as error:
            notes.append(f"{folder.name}: not shown ({error.message})")
    return found


def _promoted(run_dir: Path, notes: list[str]) -> list[Promoted]:
    try:
        return list(read_promoted(run_dir))
    except DataError as error:
        notes.append(error.message)
        return []


def _recipe_name(run_dir: Path, notes: list[str]) -> str:
    path = run_dir / "00-recipe.yaml"
    if not path.is_file():
        return run_dir.resolve().name
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        notes.append(f"00-recipe.yaml: not readable ({type(error).__name__})")
        return run_dir.resolve().name
    return str(value["name"]) if isinstance(value, dict) and value.get("name") else run_dir.resolve().name


def _commit(git: dict[str, Any] | None) -> str:
    if not git or not git.get("commit"):
        return "not a git checkout"
    return f"{str(git['commit'])[:12]}{'+changes' if git.get('dirty') else ''}"


def summarise(run_dir: Path) -> RunSummary:
    """Read every manifest below run_dir. Stages that have not run, broke off or are damaged are listed as such.

    Raises UsageError when run_dir is no folder or holds no stage at all.
    """
    if not run_dir.is_dir():
        raise UsageError(f"{run_dir}: no such run folder", hint="make one with `datk run RECIPE`")
    folders = sorted(path for path in run_dir.iterdir() if path.is_dir() and path.name[:2].isdigit())
    read = {folder.name: _stage(folder) for folder in folders}
    manifests = {name: manifest for name, (_, manifest) in read.items() if manifest}
    if not manifests:
        raise UsageError(f"{run_dir}: holds no finished stage", hint="make one with `datk run RECIPE`")
    failures = _failures(run_dir)
    for name, words in failures.items():
        # What an earlier attempt left in the stage's own folder was made from something else.
        read[name] = (_failed(name, words), None)
        manifests.pop(name, None)
    notes: list[str] = []
    stages = [stage for stage, _ in read.values()]
    stages += [
        Stage(folder=name, title=title, status="not run", detail="not part of this run so far")
        for name, title in ROUTE.items()
        if name not in read
    ]
    ids = [
        name.removeprefix(prefix)
        for prefix in ("50-export-", "60-validate-")
        for name in read
        if name.startswith(prefix) and name != "60-validate-student"
    ]
    artifacts = []
    for name in dict.fromkeys(ids):
        export, validate = manifests.get(f"50-export-{name}"), manifests.get(f"60-validate-{name}")
        row = _artifact(name, export, validate, _scenes(run_dir / f"60-validate-{name}", notes))
        refused = failures.get(f"50-export-{name}") or failures.get(f"60-validate-{name}")
        artifacts.append(row.model_copy(update={"reasons": [refused]}) if refused else row)
    student = manifests.get("60-validate-student")
    newest = sorted(manifests.values(), key=lambda manifest: manifest.created_at, reverse=True)
    tools: dict[str, str] = {}
    hosts: list[dict[str, Any]] = []
    for manifest in newest:
        tools = {**manifest.tools, **tools}
        if manifest.host and json_safe(manifest.host) not in hosts:
            hosts.append(json_safe(manifest.host))
    return RunSummary(
        recipe=_recipe_name(run_dir, notes),
        run=run_dir.resolve().name,
        created_at=newest[0].created_at,
        datk_version=tools.get("datk") or datk_version(),
        commits=list(dict.fromkeys(_commit(manifest.git) for manifest in newest)),
        hosts=hosts,
        tools=dict(sorted(tools.items())),
        artifacts=artifacts,
        student=_artifact("student", None, student, _scenes(run_dir / "60-validate-student", notes))
        if student
        else None,
        on_devices=[
            Artifact(**{**row, "metrics": _sound(row["metrics"])})
            for row in [
                *(engine_row(manifest) for name, manifest in manifests.items() if name.startswith(ENGINE_PREFIX)),
                *device_rows([f for f in folders if f.name.startswith(PREFIX)], notes),
            ]
        ],
        verdicts=_verdicts([run_dir / name for name in manifests if name.startswith(STAGE_PREFIX)], notes),
        device_verdicts=[
            str(sentence)
            for name, manifest in manifests.items()
            if name.startswith(PREFIX)
            for sentence in manifest.facts.get("verdicts", {}).values()
        ],
        promoted=_promoted(run_dir, notes),
        seeds=seeds_said(run_dir, manifests, notes),
        stages=sorted(stages, key=lambda stage: stage.folder),
        notes=notes,
    )
