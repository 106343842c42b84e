"""What to ship: the sentence and its figures stand in every form of the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from datk.artifact.files import write_json
from datk.artifact.manifest import Metric
from datk.evaluate.target_verdict import PrecisionVerdict, TargetVerdict
from datk.evaluate.verdict_rule import Compared, Contestant, choose
from datk.evaluate.verdict_statistics import Change, Speedup
from datk.report.build import build_report, sentences
from datk.report.ship_table import ship_table

REASON = "a runtime that tells <nothing> | of operators"


def change(value: float, metric: str, *, higher: bool) -> Change:
    return Change(
        metric=metric, unit="1", value=value, low=value - 0.01, high=value + 0.01, candidate=0.5 + value, base=0.5,
        n=64, n_images=64, p=0.03, test="sign flips over photographs", higher_is_better=higher,
    )  # fmt: skip


def verdict(target: str = "tflite") -> TargetVerdict:
    compared = Compared(
        speed=Speedup(value=1.06, low=1.02, high=1.11, rounds=20),
        smaller=1.64,
        accuracy=change(-1.2, "bench_accuracy", higher=True),
        dense=change(0.0031, "abs_rel_vs_teacher", higher=False),
        edges=change(-0.015, "boundary_f1_vs_teacher", higher=True),
    )
    contestants = [
        Contestant(precision="fp16", passed=True, size_bytes=9e6),
        Contestant(precision="int8", passed=True, size_bytes=5.5e6),
    ]
    choice = choose(contestants, {("int8", "fp16"): compared})
    metrics = {
        "latency_p50_ms": Metric(value=11.6, unit="ms", n=20),
        "latency_p90_ms": Metric(value=12.1, unit="ms", n=20),
        "peak_memory_bytes": Metric(value=61e6, unit="bytes", n=1),
        "float_time_share": Metric(value=None, unit="1", not_measured=REASON),
    }
    rows = tuple(
        PrecisionVerdict(
            precision=d.precision, artifact=f"50-export-{target}-{d.precision}", sha256="a" * 64,
            judged_by="litert-cpu", passed=True, status=d.status, words=d.words, metrics=metrics,
            compared=None if d.precision == "fp16" else compared,
        )
        for d in choice.decisions
    )  # fmt: skip
    return TargetVerdict(
        target=target, input_size=(56, 70), ship=choice.ship, base=choice.base, sentence=choice.sentence,
        speed_by="speed on this machine by litert-cpu", rows=rows,
    )  # fmt: skip


@pytest.fixture
def judged(run_dir: Path, stage_of: Callable[..., None]) -> Path:
    """A run with a verdict of one target."""
    stage_of(run_dir / "65-verdict-tflite", facts={"verdict": verdict().headline})
    write_json(run_dir / "65-verdict-tflite" / "verdict.json", verdict().model_dump(mode="json"))
    return run_dir


def test_the_sentence_and_the_figures_stand_in_every_form_of_the_report(judged: Path) -> None:
    paths = build_report(judged)
    said = "tflite 56x70: ship fp16; int8 rejected: 1.06x for -1.2 pt (speed on this machine by litert-cpu)"
    assert sentences(judged) == [said]
    assert json.loads(paths.json.read_text(encoding="utf-8"))["verdicts"][0]["sentence"] in said
    page, text = paths.html.read_text(encoding="utf-8"), paths.markdown.read_text(encoding="utf-8")
    assert said in page and said in text.replace("\\", "")
    for figure in ("1.06", "1.02, 1.11", "1.64", "-1.2", "+0.0031", "-1.5", "p 0.03", "11.6 / 12.1", "61 MB"):
        assert figure in page and figure in text.replace("\\", ""), figure
    assert "runtime that tells &lt;nothing&gt;" in page and "<nothing>" not in text


def test_a_run_without_verdicts_has_no_such_section(run_dir: Path) -> None:
    paths = build_report(run_dir)
    assert "What to ship" not in paths.html.read_text(encoding="utf-8")
    assert "What to ship" not in paths.markdown.read_text(encoding="utf-8")


def test_a_damaged_verdict_is_named_and_costs_nothing_else(judged: Path) -> None:
    (judged / "65-verdict-tflite" / "verdict.json").write_text("{", encoding="utf-8")
    assert sentences(judged) == []
    assert "65-verdict-tflite: not shown" in build_report(judged).markdown.read_text(encoding="utf-8").replace("\\", "")


def test_every_dash_has_a_footnote() -> None:
    table = ship_table([verdict()])
    for row in table.targets[0].rows:
        assert all(cell.note is not None for cell in row.cells if cell.text == "–")
        assert len(row.cells) == len(table.headings)
    assert any(REASON in note for note in table.notes)
