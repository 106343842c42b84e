"""Run stages in order, skip what is built, resume what was interrupted, never leave half a stage."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from datk.artifact.files import sha256_file, write_json, write_text
from datk.artifact.manifest import Manifest, read_manifest
from datk.errors import DataError, TargetError, UsageError
from datk.pipeline.apart import StagePool, processes_that_fit
from datk.pipeline.build_stage import build_stage, part_of, put_in_place
from datk.pipeline.runs import ROOT
from datk.pipeline.stage import Reporter, Stage

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
    stages: Sequence[Stage],
    run_dir: Path,
    selection: Selection,
    *,
    seed: int,
    recipe_text: str,
    reporter: Reporter,
    jobs: int | None = 1,
) -> Executed:
    """Run what plan_stages says.

    A stage that another run beside this one has built with the same key is copied from there. Any other
    writes into a hidden folder next to its own and is renamed when complete, its manifest inside:
    an interrupted run leaves that folder, and the same stage with the same key goes on from it.
    A TargetError ends only its own stage and those that need it, so that one compiler's refusal does not
    keep the others from theirs; every other error ends the run.
    jobs: how many stages marked `apart` are built at a time, from 2 on in processes of their own; None: as many as
    cores and free memory allow.
    """
    with locked(run_dir):
        write_text(run_dir / "00-recipe.yaml", recipe_text)
        walk = _Walk(run_dir, selection, seed, reporter)
        planned = [p for p in plan_stages(stages, run_dir, selection, seed=seed) if p.state != "beyond"]
        for item in planned:
            if walk.settled(item.stage.name):
                continue
            if item.stage.apart and item.state == "run" and jobs != 1:
                apart = [p for p in planned if p.stage.apart and not walk.settled(p.stage.name)]
                fit = jobs or processes_that_fit(_largest_input(apart, run_dir), _at_once(apart))
                if fit > 1:
                    _build_apart(apart, walk, fit)
                    continue
                jobs = 1
            if walk.must_build(item):
                walk.build(item.stage)
        return Executed(walk.manifests, walk.failures)


class _Walk:
    """What is settled so far, and how a stage is settled."""

    def __init__(self, run_dir: Path, selection: Selection, seed: int, reporter: Reporter) -> None:
        self.run_dir, self.selection, self.seed, self.reporter = run_dir, selection, seed, reporter
        self.manifests: dict[str, Manifest] = {}
        self.failures: dict[str, str] = {}

    def settled(self, name: str) -> bool:
        return name in self.manifests or name in self.failures

    def must_build(self, item: Planned) -> bool:
        """Settle a stage that needs no building; True for any other. All it needs is settled."""
        stage, folder = self._with_what_is_left(item.stage), self.run_dir / item.stage.name
        lost = next((name for name in stage.needs if name in self.failures), None)
        if lost is not None:
            self.failures[stage.name] = f"not run: {lost} failed"
            _keep_failure(folder, TargetError(self.failures[stage.name]))
            self.reporter.stage(stage.name, stage.title, "not run")
            return False
        (part_of(folder) / FAILED_FILE).unlink(missing_ok=True)
        state = "built before"
        if item.state == "run":
            digests = {name: m.digest for name, m in self.manifests.items()}
            force = self.selection.force
            # What lies before may have come out the same although it ran again: look once more.
            why = _why_run(stage, _manifest_or_none(folder), digests, seed=self.seed, force=force, folder=folder)
            if why is not None:
                if force or not _borrow(stage, folder, stage.key(digests, self.seed)):
                    return True
                state = "copied from another run"
        self.reporter.stage(stage.name, stage.title, state)
        self.manifests[stage.name] = read_manifest(folder)
        return False

    def _with_what_is_left(self, stage: Stage) -> Stage:
        """Without the failed ones among its needs, where it can do without them."""
        left = tuple(name for name in stage.needs if name not in self.failures)
        return replace(stage, needs=left) if any(name in left for name in stage.any_of) else stage

    def build(self, stage: Stage) -> None:
        """Run it here and now."""
        stage = self._with_what_is_left(stage)
        self.reporter.stage(stage.name, stage.title, "running")
        self.end(
            stage,
            lambda: build_stage(
                stage, self.run_dir / stage.name, self.manifests, seed=self.seed, reporter=self.reporter
            ),
        )

    def end(self, stage: Stage, built: Callable[[], Manifest]) -> None:
        """Settle a stage by what building it returns or raises."""
        try:
            self.manifests[stage.name] = built()
        except TargetError as error:
            self.failures[stage.name] = error.message
            _keep_failure(self.run_dir / stage.name, error)
            self.reporter.stage(stage.name, stage.title, "failed")
        else:
            self.reporter.stage(stage.name, stage.title, "done")


def _build_apart(items: Sequence[Planned], walk: _Walk, jobs: int) -> None:
    """Settle `items`, each as soon as what it needs of them is settled and a worker is free."""
    ours, todo = {item.stage.name for item in items}, list(items)
    with StagePool(jobs, walk.reporter) as pool:
        while todo or pool.running:
            for item in list(todo):
                stage = item.stage
                if any(name in ours and not walk.settled(name) for name in stage.needs):
                    continue
                if pool.running >= pool.processes and item.state == "run":
                    continue
                todo.remove(item)
                if walk.must_build(item):
                    walk.reporter.stage(stage.name, stage.title, "running")
                    pool.start(stage, walk.run_dir / stage.name, walk.manifests, walk.seed)
            if pool.running:
                for stage, future in pool.finished():
                    walk.end(stage, future.result)


def _at_once(items: Sequence[Planned]) -> int:
    """How many of the stages to run wait for none of the others."""
    names = {item.stage.name for item in items if item.state == "run"}
    return sum(item.state == "run" and names.isdisjoint(item.stage.needs) for item in items)


def _largest_input(items: Sequence[Planned], run_dir: Path) -> int:
    """Bytes of the largest file any of them reads from another stage: the weights."""
    folders = {run_dir / name for item in items for name in item.stage.needs}
    return max((f.stat().st_size for folder in folders for f in folder.glob("*.*") if f.is_file()), default=0)


def _keep_failure(folder: Path, error: TargetError) -> None:
    """Leave the words where the report finds them."""
    part_of(folder).mkdir(parents=True, exist_ok=True)
    write_json(part_of(folder) / FAILED_FILE, {"error": error.message, "hint": error.hint})


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


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
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
