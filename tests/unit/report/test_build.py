"""A run folder becomes one page, one Markdown file and one JSON file."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datk.artifact.manifest import Metric, Verdict, read_manifest, write_manifest
from datk.errors import UsageError
from datk.report.build import build_report, lint_lines, summary_table
from datk.report.pictures import common_scale, relative_error
from datk.report.summary import RunSummary, split_artifact_id
from datk.report.table import format_bytes, format_duration, headline

MakeRun = Callable[..., Path]
HOSTILE = "<script>alert(1)</script>|`$x$`"


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def pictures(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "img"]


def page_of(run_dir: Path) -> Page:
    return Page(build_report(run_dir).html.read_text(encoding="utf-8"))


def test_the_page_needs_nothing_from_anywhere(run_dir: Path) -> None:
    page = page_of(run_dir)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base"}
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "background"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/", "#")), f"{tag} {name}={value[:60]}"
        assert not [name for name in attributes if name.startswith("on")], f"{tag} holds a script"
    html = (run_dir / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(", html)


def test_every_link_of_the_page_has_its_anchor(run_dir: Path) -> None:
    page = page_of(run_dir)
    anchors = {attributes.get("id") for _, attributes in page.tags}
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links and all(str(link)[1:] in anchors for link in links)


def test_names_are_text_never_markup(make_run: MakeRun, tmp_path: Path, photo_of: Callable[[int], NDArray]) -> None:
    run_dir = make_run(tmp_path / "run", photos=[(HOSTILE, photo_of(0))], dataset=HOSTILE)
    folder = run_dir / "60-validate-tflite-int8"
    manifest = read_manifest(folder)
    write_manifest(
        manifest.model_copy(
            update={
                "facts": {**manifest.facts, "target": HOSTILE, "label": HOSTILE},
                "verdict": Verdict(status="rejected", reasons=[HOSTILE]),
            }
        ),
        folder,
    )
    (run_dir / "00-recipe.yaml").write_text(json.dumps({"name": HOSTILE}), encoding="utf-8")
    page = page_of(run_dir)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert(1)</script>") >= 5  # title, photo, data set, label, reason: all readable
    markdown = (run_dir / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    header = next(line for line in markdown.splitlines() if line.startswith("| artifact | judged"))
    row = next(line for line in markdown.splitlines() if "alert" in line and "| rejected |" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == header.count("|")  # the name's own | opens no column


def test_every_photo_shows_teacher_student_and_every_artifact_with_its_error(run_dir: Path) -> None:
    page = page_of(run_dir)
    assert "not shown" not in page.text  # the float student's own samples hold no reference: nothing is amiss
    alts = [str(picture["alt"]) for picture in page.pictures()]
    for name in ("photo0.jpg", "photo1.jpg"):
        for who in ("photo", "teacher", "student, float"):
            assert f"{who} of {name}" in alts
    assert sum(alt.startswith("error of ") for alt in alts) == 2 * 6


def test_ten_artifacts_and_six_large_photos_stay_below_six_megabytes(make_run: MakeRun, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (280, 350, 3)).astype(np.uint8)  # JPEG's worst case
    names = [f"onnx-{p}" for p in ("fp32", "fp16", "int8", "int8-weights", "lut4")]
    names += [f"tflite-{p}" for p in ("fp32", "fp16", "int8", "int8-dynamic", "lut8")]
    run_dir = make_run(
        tmp_path / "big",
        artifacts=dict.fromkeys(names, ("litert-cpu", 0.3)),
        photos=[(f"{i}.jpg", noise) for i in range(6)],
    )
    html = build_report(run_dir).html
    assert html.stat().st_size < 6_000_000
    assert len(Page(html.read_text(encoding="utf-8")).pictures()) >= 6 * (3 + 2 * 10)


@pytest.mark.filterwarnings("error")
def test_one_artifact_alone_has_its_plots_too(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "one", artifacts={"onnx-fp32": ("onnxruntime-cpu", 1e-6)})
    assert build_report(run).html.read_text().count("data:image/svg+xml") >= 2


def test_stages_that_have_not_run_are_named(run_dir: Path) -> None:
    shutil.rmtree(run_dir / "10-teacher")
    shutil.rmtree(run_dir / "60-validate-coreml-int8")
    (run_dir / "40-quantize-tflite").mkdir()
    (run_dir / "30-student" / "manifest.json").write_text("{", encoding="utf-8")
    build_report(run_dir)
    summary = RunSummary.model_validate_json((run_dir / "report.json").read_text(encoding="utf-8"))
    status = {stage.folder: stage.status for stage in summary.stages}
    assert status["10-teacher"] == "not run"
    assert status["40-quantize-tflite"] == "unfinished"
    assert status["30-student"] == "unreadable"
    assert {a.id: a.verdict for a in summary.artifacts}["coreml-int8"] == "not validated"
    assert headline(summary) == "5 of 6 artifacts passed every gate; 1 not validated."
    text = page_of(run_dir).text
    assert "not part of this run so far" in text and "validate has not run" in text


def test_a_target_that_refused_is_told_and_an_older_artifact_of_it_not_shown_as_passed(run_dir: Path) -> None:
    for stage, words in (("50-export-tflite-int8", "no op Foo"), ("60-validate-tflite-int8", "not run: ...")):
        (run_dir / f".{stage}.part").mkdir()
        (run_dir / f".{stage}.part" / "failed.json").write_text(json.dumps({"error": words}), encoding="utf-8")
    build_report(run_dir)
    summary = RunSummary.model_validate_json((run_dir / "report.json").read_text(encoding="utf-8"))
    row = next(a for a in summary.artifacts if a.id == "tflite-int8")
    assert (row.verdict, row.reasons) == ("not validated", ["no op Foo"])
    stage = next(s for s in summary.stages if s.folder == "50-export-tflite-int8")
    assert (stage.status, stage.detail) == ("failed", "no op Foo")


def test_a_run_that_ended_after_the_first_stage_has_a_report(run_dir: Path) -> None:
    for folder in run_dir.iterdir():
        if folder.is_dir() and folder.name != "05-synthetic":
            shutil.rmtree(folder)
    text = page_of(run_dir).text
    assert "No artifact has been exported in this run yet." in text and "embreex" in text
    assert summary_table(run_dir).rows == ()


def test_what_was_not_measured_keeps_its_reason(run_dir: Path) -> None:
    reason = "a reference evaluator's time says nothing about a device"
    table = summary_table(run_dir)
    row = next(row for row in table.rows if row.artifact == "coreml fp16")
    cell = row.cells[table.headings.index("p50 ms")]
    assert cell.text == "not measured" and reason in table.notes[(cell.note or 0) - 1]
    page = page_of(run_dir)
    assert reason in page.text and "no tensorrt and no GPU on this machine" in page.text
    assert reason.replace("_", r"\_") in (run_dir / "report.md").read_text(encoding="utf-8")


def test_a_figure_that_is_no_number_is_reported_as_not_measured_and_json_stays_json(run_dir: Path) -> None:
    folder = run_dir / "60-validate-onnx-fp32"
    manifest = read_manifest(folder)
    metrics = {**manifest.metrics, "abs_rel_vs_float": Metric(value=float("nan"), n=60)}
    write_manifest(manifest.model_copy(update={"metrics": metrics, "facts": {"worst": float("inf")}}), folder)
    build_report(run_dir)

    def refuse(name: str) -> None:
        raise AssertionError(f"report.json holds {name}")

    value = json.loads((run_dir / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)
    artifact = next(a for a in value["artifacts"] if a["id"] == "onnx-fp32")
    assert artifact["metrics"]["abs_rel_vs_float"]["not_measured"] == "came out as nan"


def test_a_rejected_artifact_says_why_everywhere(run_dir: Path) -> None:
    reason = "median correlation 0.9712 below 0.98 (int8)"
    assert reason in page_of(run_dir).text
    assert reason in (run_dir / "report.md").read_text(encoding="utf-8")
    row = next(row for row in summary_table(run_dir).rows if row.verdict == "rejected")
    assert row.artifact == "coreml int8" and row.reasons == (reason,)


def test_a_reference_evaluator_is_not_taken_for_a_device(run_dir: Path) -> None:
    text = page_of(run_dir).text
    assert "not Core ML, not a device" in text and "no Jetson" in text
    assert "not Core ML, not a device" in (run_dir / "report.md").read_text(encoding="utf-8")


def test_every_artifact_shows_contract_and_digest(run_dir: Path) -> None:
    text = page_of(run_dir).text
    assert text.count("larger is nearer") == 6
    for export in run_dir.glob("50-export-*"):
        assert read_manifest(export).outputs[0].sha256 in text


def test_a_damaged_samples_file_costs_its_pictures_and_says_so(run_dir: Path) -> None:
    (run_dir / "60-validate-onnx-fp32" / "samples.npz").write_bytes(b"PK\x03\x04 not an archive")
    page = page_of(run_dir)
    assert "60-validate-onnx-fp32/samples.npz: pictures not shown" in page.text
    assert sum(str(p["alt"]).startswith("error of ") for p in page.pictures()) == 2 * 5


def test_a_scene_nobody_could_score_hides_no_other(run_dir: Path) -> None:
    path = run_dir / "60-validate-onnx-fp32" / "details.json"
    details = json.loads(path.read_text(encoding="utf-8"))
    details["bench"]["scenes"]["Aloe"] |= {"accuracy_percent": None, "n": 0}
    path.write_text(json.dumps(details), encoding="utf-8")
    text = page_of(run_dir).text
    assert "no pair scored" in text and "per-scene figures not shown" not in text


def test_a_folder_that_is_no_run_is_a_users_mistake(tmp_path: Path) -> None:
    for folder in (tmp_path / "absent", tmp_path):
        with pytest.raises(UsageError, match=re.escape(str(folder))) as caught:
            build_report(folder)
        assert "datk run" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_error_maps_forgive_scale_and_shift_but_no_mirrored_map() -> None:
    reference = np.random.default_rng(1).random((8, 9))
    assert relative_error(5 * reference - 2, reference).max() < 1e-12
    assert relative_error(-reference, reference).mean() > 0.15
    assert relative_error(np.full_like(reference, 3.0), reference).mean() > 0.15
    holed = np.where(reference > 0.9, np.nan, reference)
    assert np.array_equal(np.isnan(relative_error(holed, reference)), reference > 0.9)


def test_the_common_scale_is_round_and_never_hides_small_errors_behind_one_broken_map() -> None:
    assert common_scale([np.full((4, 4), 0.004), np.full((4, 4), 1e-6)]) == 0.005
    assert common_scale([np.full((4, 4), 0.7)]) == 0.1
    assert common_scale([]) == 0.001


def test_a_correlation_is_never_rounded_up_to_one(run_dir: Path) -> None:
    table = summary_table(run_dir)
    row = next(row for row in table.rows if row.artifact == "onnx fp32")
    assert row.cells[0].text == "0.99999"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("tflite-int8", ("tflite", "int8")),
        ("tflite-int8-weights", ("tflite", "int8-weights")),
        ("my-target-fp16", ("my-target", "fp16")),
        ("strange", ("strange", "unknown")),
    ],
)
def test_target_and_precision_are_told_apart(name: str, parts: tuple[str, str]) -> None:
    assert split_artifact_id(name) == parts


def test_figures_are_written_for_people() -> None:
    assert [format_bytes(b) for b in (12, 840e3, 12.34e6, 3e9)] == ["12 B", "840 kB", "12.3 MB", "3 GB"]
    assert [format_duration(s) for s in (4.14, 75, 4000, None)] == ["4.1 s", "1 min 15 s", "1 h 06 min", "–"]


def test_an_artifact_nobody_could_run_is_unverified_with_its_reason_and_no_figure(
    run_dir: Path, stage_of: Callable[..., None]
) -> None:
    why = "an engine needs a GPU"
    figures = {n: Metric(value=None, not_measured=why) for n in ("correlation_vs_float_median", "bench_accuracy")}
    export, validate = run_dir / "50-export-rtx-fp16", run_dir / "60-validate-rtx-fp16"
    no_lint = {"op-lint": {"status": "not_measured", "detail": "target 'rtx' has no lint of operators"}}
    stage_of(export, facts={"target": "rtx", "precision": "fp16"}, checks=no_lint)
    verdict = Verdict(status="unverified", reasons=[f"not measured: {why}"])
    stage_of(validate, facts={"target": "rtx", "precision": "fp16", "not_run": why}, verdict=verdict, metrics=figures)
    page = page_of(run_dir)
    assert "1 unverified, since this machine cannot run it" in page.text and why in page.text
    assert "target 'rtx' has no lint of operators" in page.text
    row = next(r for r in summary_table(run_dir).rows if r.artifact == "rtx fp16")
    assert (row.verdict, row.judged_by) == ("unverified", "nobody yet")
    assert {cell.text for cell in row.cells} <= {"not measured", "–"}
    assert all(cell.note for cell in row.cells)
    markdown = (run_dir / "report.md").read_text(encoding="utf-8")
    assert f"rtx fp16, unverified: not measured: {why}" in markdown


def test_findings_on_operators_are_shown_with_the_rewrite_that_removes_them(run_dir: Path) -> None:
    folder = next(run_dir.glob("50-export-tflite-*"))
    manifest = read_manifest(folder)
    finding = {
        "rule": "tflite-gpu-op", "severity": "advice", "op": "GATHER_ND", "count": 3, "where": ["op 7, head"],
        "device": "LiteRT GPU delegate", "why": "left to the CPU", "rewrite": "slice instead", "source": "the delegate",
    }  # fmt: skip
    said = {"status": "passed", "detail": "advice", "findings": [finding], "rules": ["tflite-gpu-op"]}
    write_manifest(manifest.model_copy(update={"checks": manifest.checks | {"op-lint": said}}), folder)
    text = page_of(run_dir).text
    for words in ("tflite-gpu-op : 3 GATHER_ND", "Removed by: slice instead", "op 7, head"):
        assert words.replace(" :", ":") in text
    assert [line.partition(": ")[2] for line in lint_lines(run_dir)] == ["op lint: 3x tflite-gpu-op"]
