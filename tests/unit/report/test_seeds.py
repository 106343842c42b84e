"""Whether int8 hangs on the calibration draw stands beside the verdict; not measured comes with the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from datk.artifact.files import sha256_file, write_json
from datk.artifact.manifest import output_ref
from datk.evaluate.target_verdict import TargetVerdict
from datk.quantize.seed_spread import SeedRow, SeedSpread, file_name, write_spread
from datk.report.build import build_report, sentences

SENTENCE = "ship fp16; int8 rejected: 1.06x for -1.2 pt"
GOOD, BAD = [0.9999, 0.9998, 0.9997], [0.9999, 0.9998, 0.2]
NOT_MEASURED = "not measured: {}; `datk quantize seeds --target tflite --checkpoint {}/30-student/student.safetensors"


@pytest.fixture
def quantised(run_dir: Path, stage_of: Callable[..., None]) -> Path:
    """A run whose tflite was quantised and judged at 56x70."""
    student = run_dir / "30-student"
    (student / "student.safetensors").write_bytes(b"weights")
    stage_of(student, outputs=[output_ref(student / "student.safetensors", relative_to=student)])
    stage_of(run_dir / "40-quantize-tflite", facts={"target": "tflite", "input_size": [56, 70]})
    verdict = TargetVerdict(
        target="tflite", input_size=(56, 70), ship="fp16", base="fp16", sentence=SENTENCE, speed_by="", rows=()
    )
    stage_of(run_dir / "65-verdict-tflite")
    write_json(run_dir / "65-verdict-tflite" / "verdict.json", verdict.model_dump(mode="json"))
    return run_dir


def leave(run_dir: Path, *rows: list[float], weights: str | None = None) -> Path:
    path = run_dir / "30-student" / file_name("tflite", (56, 70))
    facts = {
        "weights_sha256": weights or sha256_file(run_dir / "30-student" / "student.safetensors"),
        "drawn": 8,
        "held_out": [{"name": f"{i}.jpg"} for i in range(3)],
    }
    seeds = [SeedRow(seed=n, drawn=[str(n), "x"], r=list(r)) for n, r in enumerate(rows)]
    write_spread(SeedSpread(key="k", facts=facts, seeds=seeds), path)
    return path


def pages(run_dir: Path) -> tuple[str, str]:
    import html

    paths = build_report(run_dir)
    text = html.unescape(paths.markdown.read_text(encoding="utf-8").replace("\\", ""))
    return html.unescape(paths.html.read_text(encoding="utf-8")), text


def test_the_spread_stands_under_the_targets_verdict_in_every_form(quantised: Path) -> None:
    leave(quantised, GOOD, GOOD, [0.9999, 0.9990, 0.9980])
    for text in pages(quantised):
        assert "Calibration draws: all 3 seeds hold the gates of int8" in text
        assert "on 3 photographs" in text and "median 0.999000 to 0.999800, worst 0.998000 to 0.999700" in text
        assert "8 photographs a draw, 50 % of them in common" in text
    told = json.loads((quantised / "report.json").read_text(encoding="utf-8"))["seeds"]
    assert [(s["target"], s["input_size"], s["summary"]["seeds"]) for s in told] == [("tflite", [56, 70], 3)]
    assert sentences(quantised) == [f"tflite 56x70: {SENTENCE}"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [([GOOD, BAD, GOOD], "seed 1 of 3 fails the gates"), ([BAD, BAD, BAD], "every draw fails the gates")],
)
def test_a_draw_that_fails_stands_in_the_sentence_itself(quantised: Path, rows: list[list[float]], said: str) -> None:
    leave(quantised, *rows)
    assert sentences(quantised) == [f"tflite 56x70: {SENTENCE}; int8 with another calibration draw: {said}"]
    assert all(said in text for text in pages(quantised))


def test_what_was_not_measured_comes_with_the_command(quantised: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(quantised.parent)
    said = NOT_MEASURED.format("no other draw was tried", "quick") + " --input-size 56x70`"
    assert all(said in text for text in pages(quantised))
    assert sentences(quantised) == [f"tflite 56x70: {SENTENCE}"]


def test_figures_of_other_weights_or_too_few_seeds_are_not_shown(quantised: Path) -> None:
    name = leave(quantised, GOOD, GOOD, GOOD, weights="f" * 64).name
    assert all(f"not measured: {name} is about other weights" in text for text in pages(quantised))
    leave(quantised, GOOD, GOOD, GOOD[:2])
    assert all("not measured: 2 of at least 3 draws are judged" in text for text in pages(quantised))


def test_a_damaged_file_is_named_and_costs_nothing_else(quantised: Path) -> None:
    leave(quantised, GOOD, GOOD, GOOD).write_text("{", encoding="utf-8")
    for text in pages(quantised):
        assert f"{file_name('tflite', (56, 70))} is damaged" in text and "no figures of seeds" in text
        assert SENTENCE in text


def test_a_run_without_int8_has_no_such_line(quantised: Path) -> None:
    (quantised / "40-quantize-tflite" / "manifest.json").unlink()
    assert all("alibration draw" not in text for text in pages(quantised))
