"""The stage that says which precision to ship, on measurements written by hand and runners that only sleep."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from datk.artifact.files import write_json
from datk.artifact.manifest import Manifest, Metric, OutputRef, Verdict
from datk.config.schema import PhotosSection
from datk.depth.io_spec import DepthKind, contract_for
from datk.evaluate.target_verdict import TargetVerdict, read_verdict
from datk.pipeline.running_cost import without
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps import verdict
from datk.pipeline.steps.verdict import Member

SIZE = (28, 42)
BYTES = {"fp32": 16.0e6, "fp16": 8.0e6, "int8": 4.0e6}


class Quiet:
    def __init__(self) -> None:
        self.said: list[str] = []

    def stage(self, name: str, title: str, state: str) -> None: ...

    def progress(self, done: int, total: int, what: str = "", stage: str = "") -> None: ...

    def note(self, text: str) -> None:
        self.said.append(text)


class Sleeper:
    """A runner that takes a known time and remembers whose turn it was."""

    def __init__(self, precision: str, seconds: float, turns: list[str]) -> None:
        self.precision, self.seconds, self.turns = precision, seconds, turns
        self.label, self.name, self.closed = "toy-cpu", precision, False
        self.input_size, self.depth_kind = SIZE, DepthKind.DISPARITY_AFFINE_INVARIANT

    def predict(self, image: np.ndarray) -> np.ndarray:
        self.turns.append(self.precision)
        time.sleep(self.seconds)
        return np.zeros(SIZE, np.float32)

    def close(self) -> None:
        self.closed = True


class Made:
    """A run folder with measurements of some precisions, and what the stage made of them."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.turns: list[str] = []
        self.runners: list[Sleeper] = []
        self.needs: dict[str, tuple[Path, Manifest]] = {}
        self.members: list[Member] = []
        self.reporter = Quiet()
        self.outcome = Outcome()
        monkeypatch.setattr(verdict, "running_cost", lambda *_: without("not in this test"))

    def add(
        self, precision: str, *, wrong: int = 0, error: float = 0.1, passed: bool = True, not_run: str = ""
    ) -> None:
        export, validate = f"50-export-toy-{precision}", f"60-validate-toy-{precision}"
        folder = self.root / validate
        folder.mkdir()
        outcomes = {f"image{i}": ("0" if i < wrong else "1") + "1" * 9 for i in range(20)}
        images = [
            {"name": f"p{i}", "abs_rel": error + 0.001 * i, "boundary_f1": 0.8 - error, "boundary_recall": 0.8}
            for i in range(12)
        ]
        write_json(folder / "details.json", {"bench": {"outcomes": outcomes}, "parity_vs_teacher": {"images": images}})
        common: dict[str, Any] = {"key": "k", "created_at": "2026-11-23T00:00:00+00:00", "duration_s": 1.0}
        built = Manifest(
            stage=export,
            outputs=[OutputRef(path="toy.bin", sha256=precision * 8, bytes=int(BYTES[precision]))],
            facts={"artifact": "toy.bin", "target": "toy", "precision": precision},
            contract=contract_for(
                input_size=SIZE, depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision=precision
            ),
            **common,
        )
        measured = Manifest(
            stage=validate,
            facts={"label": "toy-cpu"},
            metrics={"size_bytes": Metric(value=BYTES[precision], unit="bytes")},
            verdict=Verdict(status="passed") if passed else Verdict(status="rejected", reasons=["the output is flat"]),
            **common,
        )
        if not_run:
            measured.facts = {"not_run": not_run}
            measured.verdict = Verdict(status="unverified", reasons=[f"not measured: {not_run}"])
        self.needs |= {export: (self.root / export, built), validate: (folder, measured)}
        self.members.append(Member(precision, export, validate))

    def judge(
        self, seconds: dict[str, float], *, stand_ins: dict[str, str] | None = None, rounds: int = 9
    ) -> TargetVerdict:
        def open_for_latency(path: Path, contract: Any) -> Sleeper:
            self.runners.append(Sleeper(contract.precision, seconds[contract.precision], self.turns))
            return self.runners[-1]

        target: Any = SimpleNamespace(name="toy", stand_ins=stand_ins or {}, open_for_latency=open_for_latency)
        stage = StageRun(out=self.root, needs=self.needs, reporter=self.reporter, seed=0)
        self.outcome = verdict.run(target, SIZE, self.members, rounds, PhotosSection(), stage)
        return read_verdict(self.root)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    return Made(tmp_path, monkeypatch)


def test_a_faster_int8_without_harm_is_shipped_and_every_figure_is_kept(made: Made) -> None:
    made.add("fp16")
    made.add("int8", error=0.1005)
    got = made.judge({"fp16": 0.006, "int8": 0.002})
    assert got.ship == "int8" and got.base == "fp16", got.sentence
    row = got.row("int8")
    assert row is not None and row.compared is not None and row.compared.speed is not None
    assert 1.2 < row.compared.speed.low <= row.compared.speed.value < 6
    assert row.compared.smaller == 2.0 and row.sha256 == "int8" * 8
    assert row.compared.dense is not None and row.compared.dense.value == pytest.approx(0.0005)
    assert row.compared.edges is not None and row.compared.edges.value == pytest.approx(-0.0005)
    assert row.compared.accuracy is not None and row.compared.accuracy.n == 200
    assert row.metrics["latency_p50_ms"].value is not None and row.metrics["latency_p90_ms"].n == 9
    assert row.metrics["peak_memory_bytes"].not_measured == "not in this test"
    assert got.headline == f"toy 28x42: {got.sentence} (speed on this machine by toy-cpu)"
    assert made.outcome.facts["verdict"] == made.reporter.said[-1] == got.headline
    assert all(runner.closed for runner in made.runners)


def test_precisions_take_turns_and_each_is_called_once_untimed_before_its_time_is_taken(made: Made) -> None:
    made.add("fp16")
    made.add("int8")
    made.judge({"fp16": 0.0, "int8": 0.0}, rounds=5)
    assert made.turns[verdict.WARMUP * 2 :] == ["fp16", "fp16", "int8", "int8"] * 5


def test_a_faster_int8_that_loses_points_is_rejected_in_the_words_of_its_figures(made: Made) -> None:
    made.add("fp16")
    made.add("int8", wrong=4)
    got = made.judge({"fp16": 0.006, "int8": 0.002})
    assert got.ship == "fp16"
    assert got.sentence.startswith("ship fp16; int8 rejected: ") and got.sentence.endswith("x for -2.0 pt")


def test_the_speed_of_a_stand_in_is_not_measured_and_decides_nothing(made: Made) -> None:
    made.add("fp16")
    made.add("int8")
    got = made.judge({"fp16": 0.0, "int8": 0.0}, stand_ins={"toy-cpu": "a toy is no phone"})
    assert got.ship == "fp16" and made.runners == []
    assert got.sentence == "ship fp16; int8 undecided: 2.00x smaller for 0.0 pt, speed not known: a toy is no phone"
    assert got.speed_by == ""
    reasons = {r.metrics[m].not_measured for r in got.rows for m in ("latency_p50_ms", "peak_memory_bytes")}
    assert reasons == {"a toy is no phone"}


def test_a_precision_that_was_not_built_or_failed_its_gates_is_no_base(made: Made) -> None:
    made.add("fp32")
    made.add("fp16", passed=False)
    made.add("int8")
    made.needs = {k: v for k, v in made.needs.items() if not k.endswith("int8")}
    got = made.judge({"fp32": 0.0, "fp16": 0.0})
    assert got.sentence == "ship fp32; fp16 rejected: by its gates: the output is flat"
    assert [r.precision for r in got.rows] == ["fp32", "fp16"]


def test_too_few_rounds_for_an_interval_leave_the_weaker_precision_undecided(made: Made) -> None:
    made.add("fp16")
    made.add("int8")
    assert "4 timed runs, at least 5 are needed" in made.judge({"fp16": 0.0, "int8": 0.0}, rounds=4).sentence


def test_what_this_machine_cannot_run_is_not_opened_and_nothing_of_it_is_shipped(made: Made) -> None:
    made.add("fp16", not_run="no GPU here")
    made.add("int8", not_run="no GPU here")
    got = made.judge({})
    assert made.runners == [] and (got.ship, got.base, got.speed_by) == (None, None, "")
    assert got.headline == "toy 28x42: ship nothing; fp16 and int8 unverified: no GPU here"
    for row in got.rows:
        assert (row.status, row.passed, row.judged_by) == ("unverified", False, "nobody")
        assert row.metrics["latency_p50_ms"].not_measured == row.metrics["peak_memory_bytes"].not_measured
        assert row.metrics["latency_p50_ms"].not_measured == "no GPU here"


def test_a_failed_check_rejects_what_this_machine_cannot_run_all_the_same(made: Made) -> None:
    made.add("fp16", not_run="no GPU here")
    measured = made.needs["60-validate-toy-fp16"][1]
    measured.verdict = Verdict(status="rejected", reasons=["fp16-range: x reaches 7e4"])
    assert made.judge({}).sentence == "ship nothing; fp16 rejected: by its gates: fp16-range: x reaches 7e4"
