"""Run stages in order, skip what is built, resume what was interrupted, never leave half a stage."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import datk
from datk.artifact.files import sha256_file, write_json, write_text
from datk.artifact.manifest import FILE_NAME, InputRef, Manifest, output_ref, read_manifest, write_manifest
from datk.artifact.provenance import datk_version, git_state, tool_versions
from datk.artifact.sums import write_sums
from datk.artifact.verify import SUMS
from datk.errors import DataError, TargetError, UsageError
from datk.measure.device import host_info
from datk.pipeline.processes import call_others
from datk.pipeline.runs import ROOT
from datk.pipeline.stage import Outcome, Reporter, Stage, StageRun

KEY_FILE = "key"
FAILED_FILE = "failed.json"
"""In an unfinished stage's hidden folder: what its target said. Gone with the next attempt."""
State = Literal["built", "run", "taken", "beyond"]


@dataclass(frozen=True)
class Planned:
    """One line of a dry run."""

    stage: Stage
    state: State
    """built: key matches; run: will run; taken: before --from, used as it lies; beyond: after --until."""
    why: str


@dataclass(frozen=True)
class Selection:
    """Which part of the route to run."""

    first: str | None = None
    until: str | None = None
    force: bool = False


@dataclass(frozen=True)
class Executed:
    """What is built, and what a target refused to build."""

    manifests: dict[str, Manifest]
    failures: dict[str, str]
    """Stage name -> the target's words, or which failed stage it waits for."""


def plan_stages(stages: Sequence[Stage], run_dir: Path, selection: Selection, *, seed: int) -> list[Planned]:
    """Hit or miss per stage, without running anything.

    Raises UsageError for a --from or --until that names no stage, or a stage before --from that is not built.
    """
    for flag, wanted in (("--from", selection.first), ("--until", selection.until)):
        if wanted is not None and not any(_named(s, wanted) for s in stages):
            verbs = list(dict.fromkeys(s.verb for s in stages))
            raise UsageError(f"{flag} {wanted}: no such stage", hint=f"stages: {', '.join(verbs)}")
    first = next((i for i, s in enumerate(stages) if selection.first and _named(s, selection.first)), 0)
    last = max((i for i, s in enumerate(stages) if selection.until and _named(s, selection.until)), default=len(stages))
    digests: dict[str, str] = {}
    planned = []
    for i, stage in enumerate(stages):
        if i > last:
            planned.append(Planned(stage, "beyond", f"after --until {selection.until}"))
            continue
        folder = run_dir / stage.name
        manifest = _manifest_or_none(folder)
        if i < first:
            if manifest is None:
                raise UsageError(
                    f"--from {selection.first}: {run_dir / stage.name} is not built yet", hint="drop --from"
                )
            digests[stage.name] = manifest.digest
            planned.append(Planned(stage, "taken", "before --from"))
            continue
        why = _why_run(stage, manifest, digests, seed=seed, force=selection.force, folder=folder)
        if why is None:
            assert manifest is not None
            digests[stage.name] = manifest.digest
        planned.append(Planned(stage, "built" if why is None else "run", why or "key matches"))
    return planned


def execute(
    stages: Sequence[Stage], run_dir: Path, selection: Selection, *, seed: int, recipe_text: str, reporter: Reporter
) -> Executed:
    """Run what plan_stages says.

    A stage that another run beside this one has built with the same key is copied from there. Any other
    writes into a hidden folder next to its own and is renamed when complete, its manifest inside:
    an interrupted run leaves that folder, and the same stage with the same key goes on from it.
    A TargetError ends only its own stage and those that need it, so that one compiler's refusal does not
    keep the others from theirs; every other error ends the run.
    """
    with _locked(run_dir):
        write_text(run_dir / "00-recipe.yaml", recipe_text)
        manifests: dict[str, Manifest] = {}
        failures: dict[str, str] = {}
        for item in plan_stages(stages, run_dir, selection, seed=seed):
            stage, folder = item.stage, run_dir / item.stage.name
            if item.state == "beyond":
                continue
            lost = next((name for name in stage.needs if name in failures), None)
            if lost is not None:
                failures[stage.name] = f"not run: {lost} failed"
                _keep_failure(folder, TargetError(failures[stage.name]))
                reporter.stage(stage.name, stage.title, "not run")
                continue
            (_part(folder) / FAILED_FILE).unlink(missing_ok=True)
            if item.state == "run":
                digests = {name: m.digest for name, m in manifests.items()}
                # What lies before may have come out the same although it ran again: look once more.
                why = _why_run(
                    stage, _manifest_or_none(folder), digests, seed=seed, force=selection.force, folder=folder
                )
                if why is not None and not selection.force and _borrow(stage, folder, stage.key(digests, seed)):
                    reporter.stage(stage.name, stage.title, "copied from another run")
                    manifests[stage.name] = read_manifest(folder)
                    continue
                if why is not None:
                    reporter.stage(stage.name, stage.title, "running")
                    try:
                        manifest = _run_stage(stage, folder, manifests, digests, seed=seed, reporter=reporter)
                    except TargetError as error:
                        failures[stage.name] = error.message
                        _keep_failure(folder, error)
                        reporter.stage(stage.name, stage.title, "failed")
                        continue
                    manifests[stage.name] = manifest
                    reporter.stage(stage.name, stage.title, "done")
                    continue
            reporter.stage(stage.name, stage.title, "built before")
            manifests[stage.name] = read_manifest(folder)
        return Executed(manifests, failures)


def _keep_failure(folder: Path, error: TargetError) -> None:
    """Leave the words where the report finds them."""
    _part(folder).mkdir(parents=True, exist_ok=True)
    write_json(_part(folder) / FAILED_FILE, {"error": error.message, "hint": error.hint})


def _part(folder: Path) -> Path:
    """Where a stage works until it is complete."""
    return folder.with_name(f".{folder.name}.part")


def _run_stage(
    stage: Stage, folder: Path, before: dict[str, Manifest], digests: dict[str, str], *, seed: int, reporter: Reporter
) -> Manifest:
    key = stage.key(digests, seed)
    part = _part(folder)
    if part.exists() and _read_key(part) != key:
        shutil.rmtree(part)
    part.mkdir(parents=True, exist_ok=True)
    write_text(part / KEY_FILE, key)
    start = time.perf_counter()
    call_others(stage, part)
    needs = {name: (folder.parent / name, before[name]) for name in stage.needs}
    outcome: Outcome = stage.run(StageRun(out=part, needs=needs, reporter=reporter, seed=seed))
    (part / KEY_FILE).unlink()
    manifest = Manifest(
        stage=stage.name,
        key=key,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        inputs=[InputRef(role=name, path=name, sha256=digests[name]) for name in stage.needs]
        + [InputRef(role=role, path=path, sha256=digest) for role, path, digest in stage.files],
        outputs=[output_ref(p, relative_to=part) for p in sorted(part.iterdir()) if p.name not in (FILE_NAME, SUMS)],
        recipe_sha256=sha256_file(folder.parent / "00-recipe.yaml"),
        section=stage.section,
        seed=seed,
        tools={"datk": datk_version(), **tool_versions(stage.tools)},
        git=git_state(Path(datk.__file__).parent),
        host=host_info(),
        duration_s=round(time.perf_counter() - start, 3),
        **{name: getattr(outcome, name) for name in outcome.__dataclass_fields__},
    )
    write_manifest(manifest, part)
    if stage.sealed:
        write_sums(part)
    put_in_place(part, folder)
    return manifest


def _borrow(stage: Stage, folder: Path, key: str) -> bool:
    """Copy the same stage with the same key from a run beside this one, if there is a whole one. True when done.

    `datk distill --size base` after `--size small` needs no second teacher. Only below a folder named runs: a run
    folder anywhere else (--out) has neighbours that are nobody's runs.
    """
    if folder.parent.parent.name != ROOT.name:
        return False
    for other in sorted(folder.parent.parent.glob(f"*/{stage.name}")):
        manifest = _manifest_or_none(other)
        if other == folder or manifest is None or manifest.key != key or not _whole(other, manifest):
            continue
        part = folder.with_name(f".{folder.name}.copy")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(other, part)
        if _whole(part, manifest):
            put_in_place(part, folder)
            return True
        shutil.rmtree(part)
    return False


def _whole(folder: Path, manifest: Manifest) -> bool:
    """Whether every output is there with the bytes its manifest names."""
    return all((folder / o.path).exists() and sha256_file(folder / o.path) == o.sha256 for o in manifest.outputs)


def put_in_place(part: Path, folder: Path) -> None:
    """Rename a complete stage to its name; an older one of that name goes only after."""
    if not folder.exists():
        part.replace(folder)
        return
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    folder.replace(old)
    part.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def _why_run(
    stage: Stage, manifest: Manifest | None, digests: dict[str, str], *, seed: int, force: bool, folder: Path
) -> str | None:
    """Why a stage must run, or None when its output can be used as it lies."""
    if manifest is None:
        return "not built"
    if force:
        return "--force"
    missing = [name for name in stage.needs if name not in digests]
    if missing:
        return f"{missing[0]} runs first"
    if stage.key(digests, seed) != manifest.key:
        return "recipe, inputs, tools or code changed"
    for output in manifest.outputs:
        path = folder / output.path
        if not path.exists() or sha256_file(path) != output.sha256:
            return f"{output.path} is missing or changed on disk"
    return None


def _manifest_or_none(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except DataError:
        return None


def _named(stage: Stage, wanted: str) -> bool:
    return wanted in (stage.verb, stage.name, stage.name.split("-", 1)[-1])


def _read_key(part: Path) -> str | None:
    try:
        return (part / KEY_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return None


@contextmanager
def _locked(run_dir: Path) -> Iterator[None]:
    """One datk at a time in a run folder; the lock goes with the process, however it ends."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        handle = (run_dir / ".lock").open("w", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{run_dir}: cannot be written ({error.strerror})", hint="name another folder with --out"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"{run_dir}: another datk is working in it", hint="wait for it, or use another --out"
            ) from error
        yield
