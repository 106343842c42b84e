"""Stages of several targets at once: the same results, the same failures, and Ctrl-C ends them all."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from datk.artifact.manifest import read_manifest
from datk.errors import DataError, EnvironmentLacks
from datk.pipeline import apart
from datk.pipeline.execute import Executed, Selection, execute
from datk.pipeline.stage import Stage

TOYS = """
import os, time
from datk.errors import DataError, TargetError
from datk.pipeline.stage import Outcome

def note_pid(stage):
    stage.reporter.note(f"hello from {os.getpid()}")
    stage.reporter.progress(1, 2, "half")
    (stage.out / "out.txt").write_text("+".join(sorted(stage.needs)))
    return Outcome(facts={"pid": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS")})

def refuse(stage):
    raise TargetError("no such op", hint="another opset")

def unreadable(stage):
    raise DataError("the picture is broken", hint="another picture")

def meet(stage):
    (stage.out.parent / f"here-{stage.out.name}").touch()
    deadline = time.monotonic() + 60
    while len(list(stage.out.parent.glob("here-*"))) < 2:
        if time.monotonic() > deadline:
            raise DataError("nobody else came")
        time.sleep(0.01)
    return Outcome()

def killed(stage):
    os.kill(os.getpid(), 9)

def sleep(stage):
    (stage.out / "pid").write_text(str(os.getpid()))
    time.sleep(120)
    return Outcome()
"""

OWNER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import apart_toys
from datk.pipeline.execute import Selection, execute
from datk.pipeline.processes import Silent
from datk.pipeline.stage import Stage

if __name__ == "__main__":
    stages = [Stage(name=n, verb=n, title=n, run=apart_toys.sleep, section={}, apart=True) for n in ("a", "b")]
    try:
        execute(stages, Path(sys.argv[1]) / "run", Selection(), seed=0, recipe_text="", reporter=Silent(), jobs=2)
    except KeyboardInterrupt:
        sys.exit(130)
"""


class Recorder:
    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.moved: set[str] = set()

    def stage(self, name: str, title: str, state: str) -> None:
        self.states.append((name, state))

    def progress(self, done: int, total: int, what: str = "", stage: str = "") -> None:
        self.moved.add(stage)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "apart_toys.py").write_text(TOYS)
    monkeypatch.syspath_prepend(str(tmp_path))  # spawn hands sys.path on
    monkeypatch.delitem(sys.modules, "apart_toys", raising=False)
    return importlib.import_module("apart_toys")


def chains(toys: ModuleType, broken: str = "note_pid") -> list[Stage]:
    """student; per target quantise and compile, then measure."""

    def stage(name: str, run: str, *needs: str, aside: bool = True) -> Stage:
        return Stage(
            name=name, verb=name, title=name, run=getattr(toys, run), section={"run": run}, needs=needs, apart=aside
        )

    return [
        stage("student", "note_pid", aside=False),
        stage("quantize-x", broken, "student"),
        stage("export-x", "note_pid", "student", "quantize-x"),
        stage("measure-x", "note_pid", "export-x", aside=False),
        stage("quantize-y", "note_pid", "student"),
        stage("export-y", "note_pid", "student", "quantize-y"),
        stage("measure-y", "note_pid", "export-y", aside=False),
    ]


def go(stages: list[Stage], run_dir: Path, jobs: int = 2) -> tuple[Executed, Recorder]:
    said = Recorder()
    done = execute(stages, run_dir, Selection(), seed=0, recipe_text="name: toy\n", reporter=said, jobs=jobs)
    return done, said


def test_what_is_built_apart_is_what_is_built_in_line(toys: ModuleType, tmp_path: Path) -> None:
    apart_, said = go(chains(toys), tmp_path / "two")
    in_line, _ = go(chains(toys), tmp_path / "one", jobs=1)
    assert {n: m.digest for n, m in apart_.manifests.items()} == {n: m.digest for n, m in in_line.manifests.items()}
    assert {n: m.key for n, m in apart_.manifests.items()} == {n: m.key for n, m in in_line.manifests.items()}
    pids = {name: m.facts["pid"] for name, m in apart_.manifests.items()}
    ours = {name for name, pid in pids.items() if pid == os.getpid()}
    assert ours == {"student", "measure-x", "measure-y"}
    assert {m.facts["pid"] for m in in_line.manifests.values()} == {os.getpid()}
    assert sum(note.startswith("hello") for note in said.notes) == 7
    assert {"quantize-x", "export-y"} <= said.moved


def test_two_are_built_at_the_same_time(toys: ModuleType, tmp_path: Path) -> None:
    done, _ = go([*chains(toys, broken="meet")[:2], stage_alone(toys)], tmp_path / "run")
    assert {"quantize-x", "alone"} <= set(done.manifests)


def stage_alone(toys: ModuleType) -> Stage:
    return Stage(name="alone", verb="alone", title="alone", run=toys.meet, section={}, apart=True)


def test_nothing_is_measured_while_anything_is_built(toys: ModuleType, tmp_path: Path) -> None:
    _, said = go(chains(toys), tmp_path / "run")
    first_measured = said.states.index(("measure-x", "running"))
    assert all(said.states.index((n, "done")) < first_measured for n in ("export-x", "export-y", "quantize-y"))


def test_a_worker_knows_its_share_of_the_cores_from_its_first_moment(
    toys: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "_cores", lambda: 6)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    done, _ = go(chains(toys), tmp_path / "run")
    assert done.manifests["export-x"].facts["threads"] == "3"
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_one_targets_refusal_ends_its_own_stages_only(toys: ModuleType, tmp_path: Path) -> None:
    done, said = go(chains(toys, broken="refuse"), tmp_path / "run")
    assert done.failures["quantize-x"] == "no such op"
    assert set(done.failures) == {"quantize-x", "export-x", "measure-x"}
    assert {"export-y", "measure-y"} <= set(done.manifests)
    assert (tmp_path / "run" / ".quantize-x.part" / "failed.json").exists()
    again, said = go(chains(toys), tmp_path / "run")
    assert not again.failures and ("export-y", "built before") in said.states


def test_any_other_error_ends_the_run_with_its_own_words(toys: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="picture is broken") as caught:
        go(chains(toys, broken="unreadable"), tmp_path / "run")
    assert caught.value.hint == "another picture"
    assert not (tmp_path / "run" / "quantize-x").exists()


def test_a_killed_worker_is_told_with_the_line_that_goes_on(toys: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacks, match=r"quantize-x.* ended without a word") as caught:
        go(chains(toys, broken="killed")[:2], tmp_path / "run")
    assert "--jobs 1" in (caught.value.hint or "")
    assert not (tmp_path / "run" / "quantize-x").exists()
    again, _ = go(chains(toys), tmp_path / "run")
    assert not again.failures


def test_what_is_built_is_not_built_again(toys: ModuleType, tmp_path: Path) -> None:
    go(chains(toys), tmp_path / "run")
    _, said = go(chains(toys), tmp_path / "run")
    assert {state for _, state in said.states} == {"built before"}


@pytest.mark.parametrize("whom", ["the first process", "everybody"])
def test_ctrl_c_ends_all_at_once_and_leaves_no_process(toys: ModuleType, tmp_path: Path, whom: str) -> None:
    (tmp_path / "owner.py").write_text(OWNER)
    owner = subprocess.Popen(
        [sys.executable, str(tmp_path / "owner.py"), str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    told = [tmp_path / "run" / f".{name}.part" / "pid" for name in ("a", "b")]
    deadline = time.monotonic() + 120
    while not all(f.exists() and f.read_text() for f in told) and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(f.read_text()) for f in told]
    (os.killpg if whom == "everybody" else os.kill)(owner.pid, signal.SIGINT)
    _, said = owner.communicate(timeout=30)  # the toys sleep for two minutes
    assert owner.returncode == 130, said
    assert "Traceback" not in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert not (tmp_path / "run" / "a").exists()


def test_memory_and_cores_bound_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    small = 99 << 20
    monkeypatch.setattr(apart, "_cores", lambda: 4)
    monkeypatch.setattr(apart, "available_bytes", lambda: 64 << 30)
    assert apart.processes_that_fit(small, 9) == 4
    assert apart.processes_that_fit(small, 3) == 3
    assert apart.processes_that_fit(small, 0) == 1
    monkeypatch.setattr(apart, "available_bytes", lambda: 8 << 30)
    assert apart.processes_that_fit(17 << 20, 9) == 2
    assert apart.processes_that_fit(1300 << 20, 9) == 1
    monkeypatch.setattr(apart, "available_bytes", lambda: None)
    assert apart.processes_that_fit(small, 9) == 1


def test_manifests_of_stages_built_apart_are_whole(toys: ModuleType, tmp_path: Path) -> None:
    go(chains(toys), tmp_path / "run")
    manifest = read_manifest(tmp_path / "run" / "export-x")
    assert [i.role for i in manifest.inputs] == ["student", "quantize-x"]
    assert [o.path for o in manifest.outputs] == ["out.txt"]
