"""The whole route at the smallest sizes, by the commands a user types."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from datk.artifact.files import sha256_file
from datk.artifact.manifest import read_manifest
from datk.config.load import find_recipe
from datk.evaluate.target_verdict import read_verdict

RECIPE = yaml.safe_load(find_recipe("smoke").read_text(encoding="utf-8")) | {
    "name": "e2e",
    "targets": [
        {"name": "onnx", "precisions": ["fp32", "int8"]},
        {"name": "coreml", "precisions": ["fp16"]},
    ],
}


@contextmanager
def argv(*words: str) -> Iterator[None]:
    old = sys.argv
    sys.argv = ["datk", *words]
    try:
        yield
    finally:
        sys.argv = old


def datk(*words: str) -> int:
    """Exit code of a `datk` line run in this process."""
    from datk.cli.main import main

    with argv(*words):
        try:
            main()
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else 0
    return 0


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder in which the route has run once."""
    folder = tmp_path_factory.mktemp("route")
    (folder / "e2e.yaml").write_text(yaml.safe_dump(RECIPE))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert datk("run", "e2e.yaml") in (
            0,
            3,
        )  # 3: a net trained for 8 steps may fail its int8 gate; the file is kept
        yield folder


def exports(work: Path) -> list[Path]:
    return sorted((work / "runs" / "e2e").glob("50-export-*"))


def test_every_artifact_has_manifest_contract_verdict_and_digest(work: Path) -> None:
    assert {e.name for e in exports(work)} >= {"50-export-onnx-fp32", "50-export-onnx-int8", "50-export-coreml-fp16"}
    for folder in exports(work):
        manifest = read_manifest(folder)
        assert manifest.contract is not None
        assert json.loads((folder / "contract.json").read_text()) == manifest.contract.model_dump(mode="json")
        artifact = next(o for o in manifest.outputs if o.path == manifest.facts["artifact"])
        assert artifact.sha256 == sha256_file(folder / artifact.path)
        measured = read_manifest(folder.with_name(folder.name.replace("50-export", "60-validate")))
        assert measured.verdict is not None
        for name in (
            "correlation_vs_float_median",
            "correlation_vs_teacher_median",
            "bench_accuracy",
        ):
            assert measured.metrics[name].value is not None, name
        evaluated = "coreml" in folder.name  # datk's own evaluator: its time is nobody's
        assert (measured.metrics["latency_p50_ms"].value is None) is evaluated
        assert ("not Core ML" in str(measured.metrics["latency_p50_ms"].not_measured)) is evaluated
        assert measured.metrics["correlation_vs_float_median"].n is not None


def test_every_target_has_a_verdict_that_names_its_precisions_and_stands_in_the_report(work: Path) -> None:
    run = work / "runs" / "e2e"
    for target, precisions in (("onnx", ["fp32", "int8"]), ("coreml", ["fp16"])):
        verdict = read_verdict(run / f"65-verdict-{target}")
        assert [r.precision for r in verdict.rows] == precisions
        assert verdict.sentence.startswith(f"ship {verdict.ship or 'nothing'}")
        assert verdict.headline in (run / "report.json").read_text(encoding="utf-8")
        assert read_manifest(run / f"65-verdict-{target}").facts["verdict"] == verdict.headline
    row = read_verdict(run / "65-verdict-onnx").row("fp32")
    assert row is not None
    for name in ("latency_p50_ms", "peak_memory_bytes", "float_time_share", "boundary_f1_vs_teacher"):
        assert row.metrics[name].value is not None or "edge" in str(row.metrics[name].not_measured), name


def test_fp32_and_fp16_pass_their_gates(work: Path) -> None:
    for name in ("onnx-fp32", "coreml-fp16"):
        verdict = read_manifest(work / "runs" / "e2e" / f"60-validate-{name}").verdict
        assert verdict is not None and verdict.status == "passed", verdict


def test_training_used_what_it_says_and_records_it(work: Path) -> None:
    run = work / "runs" / "e2e"
    assert read_manifest(run / "05-synthetic").facts["renderer"] in ("moderngl", "embreex")
    assert [d.name for d in read_manifest(run / "10-teacher").datasets] == ["datk synthetic"]
    student = read_manifest(run / "30-student")
    assert [d.name for d in student.datasets] == ["photographs"]
    assert "teacher encoder" in student.facts["feature_source"]


def test_int8_is_calibrated_on_photographs_the_teacher_has_labelled(work: Path) -> None:
    run = work / "runs" / "e2e"
    labelled = json.loads((run / "35-calibration" / "calibration.json").read_text())
    assert labelled["labelled_by"] == "10-teacher" and labelled["photos"]
    quantised = read_manifest(run / "40-quantize-onnx")
    assert quantised.facts["files"] == [p["name"] for p in labelled["photos"]]
    floating, int8 = (quantised.metrics[f"{n}_label_r"].value for n in ("float", "int8"))
    assert floating is not None and int8 is not None and abs(floating - int8) < 0.2


def test_every_export_is_asked_how_it_reads_its_input_and_int8_what_it_was_calibrated_on(work: Path) -> None:
    for folder in exports(work):
        checks = read_manifest(folder).checks
        assert checks["input-path"]["status"] == "passed", checks["input-path"]
        if folder.name.endswith("int8"):
            assert checks["int8-scheme"]["status"] == "passed", checks["int8-scheme"]
            assert checks["int8-layers"]["worst_layer"] and checks["calibration-input"]["n"] > 0


def test_rerun_builds_nothing(work: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (work / "runs" / "e2e").rglob("manifest.json")}
    assert datk("run", "e2e.yaml") in (0, 3)
    assert {p: p.stat().st_mtime_ns for p in (work / "runs" / "e2e").rglob("manifest.json")} == before


def test_predict_works_with_every_kind_of_artifact_and_checkpoint(work: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    cv2.imwrite(str(work / "photo.png"), cv2.GaussianBlur(photo, (9, 9), 3))
    models = [*exports(work), work / "runs" / "e2e" / "30-student" / "student.safetensors"]
    for model in models:
        out = work / f"predicted-{model.name}"
        assert datk("predict", "photo.png", "--model", str(model), "--out", str(out)) == 0
        depth = np.load(out / "photo.npy")
        assert depth.shape == (60, 90) and depth.dtype == np.float32 and np.isfinite(depth).all()
        assert cv2.imread(str(out / "photo.png")).shape == (60, 90, 3)


def test_export_without_checkpoint_adds_to_the_newest_run(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert datk("export", "--target", "onnx", "--precision", "fp16") in (0, 3)
    assert "the student of runs/e2e" in " ".join(capsys.readouterr().err.split())
    assert (work / "runs" / "e2e" / "50-export-onnx-fp16" / "manifest.json").is_file()
    kept = yaml.safe_load((work / "runs" / "e2e" / "00-recipe.yaml").read_text())
    onnx = next(t for t in kept["targets"] if t["name"] == "onnx")
    assert onnx["precisions"] == ["fp32", "int8", "fp16"]
    assert {t["name"] for t in kept["targets"]} == {"onnx", "coreml"}


def test_validate_takes_every_artifact_of_the_newest_run(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert datk("validate", "--bench", "mini", "--count", "50", "--json") in (0, 3)
    captured = capsys.readouterr()
    judged: list[dict[str, Any]] = json.loads(captured.out)
    assert {j["name"] for j in judged} == {e.name.removeprefix("50-export-") for e in exports(work)}
    assert "artifacts of runs/e2e" in " ".join(captured.err.split())


def test_report_is_one_file_that_opens_offline(work: Path) -> None:
    assert datk("report", "runs/e2e", "--json") == 0
    html = (work / "runs" / "e2e" / "report.html").read_text()
    assert "coreml-reference" in html
    for outside in ('src="http', "src='http", 'href="http', "url(http", "<script src"):
        assert outside not in html


def test_the_run_folder_names_no_path_outside_itself(work: Path) -> None:
    for path in (work / "runs" / "e2e").rglob("manifest.json"):
        assert str(work) not in path.read_text(), path
