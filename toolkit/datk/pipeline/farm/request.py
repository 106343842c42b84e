"""What `datk farm run` was asked, and the jobs that follow: every artifact on every device that can run it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datk.artifact.files import sha256_file, size_bytes
from datk.artifact.manifest import FILE_NAME, Manifest, read_manifest
from datk.config.load import load_recipe
from datk.depth.io_spec import Size
from datk.errors import DatkError, UsageError
from datk.farm import adapters
from datk.farm.inventory import Device
from datk.farm.job import RUNTIME_OF, Job, Part, Timing
from datk.farm.store import ROOT
from datk.pipeline.farm.brought_back import engine_of, sent_file
from datk.pipeline.farm.inputs import InputSet, input_set
from datk.pipeline.measuring import Setting, open_bench
from datk.pipeline.promotion import verdicts_of
from datk.pipeline.runs import Artifact, artifacts_of, newest_run, run_of
from datk.pipeline.steps.photos import photo_set

RUNTIME_OF_TARGET = {"jetson": "tensorrt"}
"""Targets whose artifact another runtime than its ending's is meant for."""


@dataclass(frozen=True, kw_only=True)
class FarmRequest:
    """What was typed."""

    devices: tuple[Device, ...]
    artifacts: tuple[Path, ...] = ()
    """Run folders and export folders. Empty: the newest run."""
    precisions: tuple[str, ...] = ()
    """Only artifacts of these. Empty: all."""
    baseline: Path | None = None
    """A run or export folder to compare latency with. None: the float artifact the run's verdict compares with, or
    where there is no verdict the same target's fp32 artifact."""
    bench: str | None = None
    data: Path | None = None
    count: int | None = None
    timing: Timing = field(default_factory=Timing)
    max_drop_pp: float = 1.0
    allow_few: bool = False
    store: Path = ROOT
    release: str = ""
    salt: str = ""


@dataclass(frozen=True)
class Item:
    """One artifact on one device: a job, or the reason why there is none."""

    artifact: Artifact
    device: Device
    job: Job | None = None
    inputs: InputSet | None = None
    unsupported: str = ""
    engine: str | None = None
    """The stage whose engine was sent instead of the export, built on this very device."""


@dataclass(frozen=True)
class FarmPlan:
    """All that will be done."""

    run_dir: Path
    setting: Setting
    items: tuple[Item, ...]
    said: list[str] = field(default_factory=list)

    @property
    def jobs(self) -> list[Job]:
        return [i.job for i in self.items if i.job is not None]


def plan_farm(request: FarmRequest) -> FarmPlan:
    """Raises UsageError, DataError or EnvironmentLacks before anything is queued."""
    artifacts, run_dir, said = artifacts_asked_for(request)
    recipe = load_recipe(run_dir / "00-recipe.yaml")
    bench = request.bench or recipe.validation.bench
    data = str(request.data) if request.data else (recipe.validation.data if bench == recipe.validation.bench else None)
    photos = photo_set(
        recipe.photos.validation, "validation", request.count or recipe.photos.validation_count, seed=recipe.seed
    )
    setting = Setting(
        photos=photos.paths,
        bench=bench,
        pairs=open_bench(bench, data),
        max_drop_pp=request.max_drop_pp,
        latency_runs=1,
        allow_few=request.allow_few or recipe.validation.allow_few,
    )
    runtimes = asyncio.run(_runtimes(request.devices))
    inputs: dict[Size, InputSet] = {}
    items = []
    for artifact in artifacts:
        baseline = _baseline(artifact, request.baseline)
        for device in request.devices:
            if why := unsupported(artifact, device, runtimes.get(device.name)):
                items.append(Item(artifact, device, unsupported=why))
                continue
            size = _contract_size(artifact)
            if size not in inputs:
                inputs[size] = input_set(setting, size, request.store / "inputs")
            parts = tuple(
                _part(role, a, device) for role, a in (("candidate", artifact), ("baseline", baseline)) if a is not None
            )
            job = Job.model_validate(
                {
                    "device": device,
                    "runtime": runtime_of(artifact),
                    "parts": parts,
                    "inputs": inputs[size].inputs,
                    "timing": request.timing,
                    "salt": request.salt,
                }
            )
            engine = engine_of(artifact, device)
            items.append(Item(artifact, device, job, inputs[size], engine=engine.parent.name if engine else None))
    return FarmPlan(run_dir, setting, tuple(items), said)


def runtime_of(artifact: Artifact) -> str | None:
    """Which runtime an artifact is for; None when the farm knows none."""
    return RUNTIME_OF_TARGET.get(artifact.target) or RUNTIME_OF.get(artifact.path.suffix)


def unsupported(artifact: Artifact, device: Device, found: Collection[str] | None) -> str:
    """Why the farm does not run an artifact on a device; empty where it does. found: runtimes there, None: unknown."""
    if device.disabled is not None:
        return f"disabled: {device.disabled}"
    if entries := artifact.manifest.facts.get("entries"):
        return f"a pack of several sizes: the farm runs them one by one, from {', '.join(entries.values())}"
    runtime = runtime_of(artifact)
    if runtime is None:
        return f"the farm's agent has no runtime for {artifact.path.suffix} (it has those of {', '.join(RUNTIME_OF)})"
    if device.runtimes and runtime not in device.runtimes:
        return f"{device.name} runs {', '.join(device.runtimes)} only"
    if found is not None and runtime not in found:
        return f"{device.name} has no {runtime}"
    return ""


def artifacts_asked_for(request: FarmRequest) -> tuple[list[Artifact], Path, list[str]]:
    """(artifacts, their one run folder, what was taken by default). Raises UsageError."""
    said = []
    paths = request.artifacts
    if not paths:
        newest = newest_run()
        said.append(f"no --artifacts: those of {newest}")
        paths = (newest,)
    found: list[Artifact] = []
    runs = set()
    for path in paths:
        if (path / FILE_NAME).is_file():
            found.append(_exported(path))
            runs.add(run_of(path / FILE_NAME))
        else:
            found += artifacts_of(path)
            runs.add(path.resolve())
    if len(runs) != 1 or None in runs:
        raise UsageError("the artifacts of one call belong to one run folder", hint="call once for each run")
    run_dir = runs.pop()
    assert run_dir is not None
    chosen = [a for a in found if not request.precisions or a.precision in request.precisions]
    if not chosen:
        there = ", ".join(sorted({a.precision for a in found}))
        raise UsageError(f"no artifact in {', '.join(request.precisions)}", hint=f"{run_dir} holds {there}")
    return chosen, run_dir, said


def _exported(folder: Path) -> Artifact:
    manifest: Manifest = read_manifest(folder)
    if "artifact" not in manifest.facts:
        raise UsageError(f"{folder}: holds no artifact", hint="name a run folder or one of its 50-export- folders")
    return Artifact(folder, manifest)


def _baseline(artifact: Artifact, named: Path | None) -> Artifact | None:
    """What latency is compared with: the named one, the same artifact of a named run, or the target's own float one."""
    if named is None:
        sibling = _float_sibling(artifact)
        if sibling == artifact.folder or not (sibling / FILE_NAME).is_file():
            return None
        found = _exported(sibling)
    elif (named / FILE_NAME).is_file():
        found = _exported(named)
    elif (named / artifact.folder.name / FILE_NAME).is_file():
        found = _exported(named / artifact.folder.name)
    else:
        raise UsageError(
            f"--baseline {named}: holds no {artifact.folder.name}", hint="name a run with the same targets"
        )
    same = found.path.suffix == artifact.path.suffix and _contract_size(found) == _contract_size(artifact)
    return found if same else None


def _float_sibling(artifact: Artifact) -> Path:
    """Export folder of the base that the verdict of its target and size names; without a verdict, of fp32."""
    place = (artifact.target, _contract_size(artifact))
    for verdict in verdicts_of(artifact.folder.parent):
        row = verdict.row(verdict.base) if verdict.base is not None else None
        if (verdict.target, verdict.input_size) == place and row is not None:
            return artifact.folder.parent / row.artifact
    return artifact.folder.parent / f"50-export-{artifact.target}-fp32"


def _part(role: str, artifact: Artifact, device: Device) -> Part:
    path = sent_file(artifact, device)
    return Part.model_validate(
        {
            "role": role,
            "name": artifact.id,
            "path": str(path.resolve()),
            "sha256": sha256_file(path),
            "bytes": size_bytes(path),
            "contract": artifact.manifest.contract,
        }
    )


def _contract_size(artifact: Artifact) -> Size:
    contract = artifact.manifest.contract
    if contract is None:
        raise UsageError(f"{artifact.folder}: its manifest has no contract", hint="export it again")
    return contract.input_size


async def _runtimes(devices: Sequence[Device]) -> dict[str, list[str]]:
    """What devices without a list of runtimes say they have. One that cannot be asked now is not left out."""

    async def ask(device: Device) -> tuple[str, list[str]] | None:
        try:
            async with adapters.get(device.kind).open(device) as session:
                told = (await session.probe()).get("runtimes")
        except DatkError:
            return None
        return (device.name, [str(name) for name in told]) if isinstance(told, dict) else None

    asked = await asyncio.gather(*(ask(d) for d in devices if not d.runtimes and d.disabled is None))
    return dict(answer for answer in asked if answer is not None)
