"""What this machine cannot run: a record with the reason from plan to table, never a blank, a zero or a pass."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from datk import targets
from datk.artifact.files import write_json
from datk.artifact.manifest import Manifest, Metric, Verdict, write_manifest
from datk.config.schema import PhotosSection, ValidateSection
from datk.depth.io_spec import DepthKind, contract_for
from datk.errors import EnvironmentLacks
from datk.models.depth_anything import DepthAnything
from datk.models.presets import preset
from datk.pipeline import scheme_search
from datk.pipeline.judging import TaskRequest
from datk.pipeline.run import RunResult
from datk.pipeline.scheme_search import SearchRequest
from datk.pipeline.side_by_side import keep, told
from datk.pipeline.stage import StageRun
from datk.pipeline.steps import validate as validate_step
from datk.pipeline.validating import ValidateRequest, as_json, validate
from datk.report.ci import junit, markdown
from datk.report.judged_file import read_judged
from datk.targets.base import Target
from tests.unit.pipeline.test_judging import da2k, maps
from tests.unit.pipeline.test_verdict_stage import Quiet

WHY = "the accelerator is on another machine"
SIZE = (28, 42)


def nowhere() -> str:
    """What a target's not_here says here."""
    return WHY


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Target:
    """The onnx target, as if this machine could not run it."""
    here = dataclasses.replace(targets.get("onnx"), not_here=f"{__name__}:nowhere")
    monkeypatch.setattr(targets, "get", lambda name: here)
    return here


def exported(folder: Path, *, checks: dict[str, Any] | None = None) -> Manifest:
    """An export folder whose artifact nobody could open."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"never opened")
    contract = contract_for(input_size=SIZE, depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision="fp16")
    write_json(folder / "contract.json", contract.model_dump(mode="json"))
    manifest = Manifest(
        stage=folder.name,
        key="k",
        created_at="2026-11-23T00:00:00+00:00",
        contract=contract,
        facts={"artifact": "model.onnx", "target": "onnx", "precision": "fp16"},
        checks=checks or {},
        metrics={"size_bytes": Metric(value=12.0, unit="bytes")},
        duration_s=1.0,
    )
    write_manifest(manifest, folder)
    return manifest


def test_opening_it_says_why_not_before_anything_is_loaded(target: Target, tmp_path: Path) -> None:
    for open_it in (target.open, target.open_for_latency):
        with pytest.raises(EnvironmentLacks) as caught:
            open_it(tmp_path / "model.onnx", contract_for(
                input_size=SIZE, depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision="fp16"
            ))  # fmt: skip
        assert caught.value.exit_code == 4
        assert caught.value.message == f"model.onnx cannot be run on this machine: {WHY}"
    assert "no runner on a host" in dataclasses.replace(target, runner=None, not_here=None).cannot_run()
    assert dataclasses.replace(target, not_here=None).cannot_run() == ""


@pytest.mark.parametrize("failed", [False, True])
def test_its_measurement_is_a_record_of_the_reason(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failed: bool
) -> None:
    checks = {"fp16-range": {"status": "failed" if failed else "passed", "detail": "x reaches 7e4"}}
    built = exported(tmp_path / "50-export-onnx-fp16", checks=checks)
    cost = {"bucket_stretch_median": Metric(value=1.1, unit="1")}
    monkeypatch.setattr(validate_step, "bucket_cost", lambda *_: cost)
    student = built.model_copy(update={"stage": "30-student"})
    needs = {"50-export-onnx-fp16": (tmp_path, built), "30-student": (tmp_path, student)}
    stage = StageRun(out=tmp_path, needs=needs, reporter=Quiet(), seed=0)
    outcome = validate_step.artifact("50-export-onnx-fp16", target, "fp16", ValidateSection(), PhotosSection(), stage)
    assert outcome.verdict is not None
    assert outcome.verdict.status == ("rejected" if failed else "unverified")
    assert outcome.failed_stage == ("validate" if failed else None)
    assert f"not measured: {WHY}" in outcome.verdict.reasons
    assert outcome.facts["not_run"] == WHY and "label" not in outcome.facts
    known = {name for name, metric in outcome.metrics.items() if metric.value is not None}
    assert known == {"size_bytes", "bucket_stretch_median"}
    own = {n: m.not_measured for n, m in outcome.metrics.items() if n not in known and "teacher" not in n}
    assert set(own.values()) == {WHY} and {"bench_accuracy", "latency_p50_ms", "boundary_f1_vs_float"} <= set(own)
    assert "reference: self" in str(outcome.metrics["abs_rel_vs_teacher"].not_measured)
    assert not (tmp_path / "samples.npz").exists()


def test_it_fails_no_run_and_is_told_apart(tmp_path: Path) -> None:
    manifest = exported(tmp_path / "50-export-onnx-fp16")
    manifest.verdict = Verdict(status="unverified", reasons=[f"not measured: {WHY}"])
    result = RunResult(tmp_path, {"60-validate-onnx-fp16": manifest})
    assert result.rejected == {} and result.unverified == {"onnx-fp16": [f"not measured: {WHY}"]}


def test_side_by_side_it_is_left_out_with_its_reason_and_the_others_are_measured(
    target: Target, tmp_path: Path
) -> None:
    root = da2k(tmp_path / "set", 3)
    exported(tmp_path / "export")
    models = [tmp_path / "export", Path(maps(tmp_path / "maps", root, 0.8))]
    request = ValidateRequest(models=tuple(models), bench="da2k", data=root, cache=None)
    unseen, seen = validate(request, models, reporter=Quiet())
    assert (unseen.not_run, unseen.label, unseen.compared) == (WHY, "nobody", None) and seen.compared is not None
    assert unseen.verdict is not None and unseen.verdict.status == "unverified"
    value = as_json(unseen)
    assert value["not_measured"] == WHY and value["judged_by"] is None
    assert value["metrics"]["bench_accuracy"] == {
        "value": None, "unit": "%", "n": None, "higher_is_better": None, "interval95": None, "not_measured": WHY,
    }  # fmt: skip
    rows = told([seen.compared], {unseen.name: WHY})
    assert dict(rows[1].figures) == dict.fromkeys(dict(rows[0].figures), "not measured")
    text = junit("da2k", "p", rows)
    assert f'<skipped message="not measured: {WHY}"' in text and 'failures="0"' in text
    assert f"| {unseen.name} | nobody | not measured |" in markdown("da2k", "p", rows)
    keep(tmp_path / "kept.json", [seen.compared], TaskRequest(bench="da2k", data=root), None, {unseen.name: WHY})
    assert f"{unseen.name}: not measured: {WHY}" in read_judged(tmp_path / "kept.json").notes


def test_a_call_that_can_measure_nothing_ends_with_exit_4(target: Target, tmp_path: Path) -> None:
    exported(tmp_path / "export")
    request = ValidateRequest(models=(tmp_path / "export",), bench="da2k", data=da2k(tmp_path / "set", 2))
    with pytest.raises(EnvironmentLacks, match=f"nothing measured(.|\n)*export: {WHY}"):
        validate(request, request.models, reporter=Quiet())


def test_a_search_over_schemes_that_nobody_can_measure_is_refused(target: Target) -> None:
    with pytest.raises(EnvironmentLacks, match=WHY):
        scheme_search.search(SearchRequest(target="onnx"), reporter=Quiet())


def test_where_it_can_be_run_it_is_measured_anew(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is part of the key: a run folder carried to a machine with the accelerator is measured there."""
    from datk.config.load import recipe_from_dict
    from datk.models.weights import save_checkpoint
    from datk.pipeline.route import stages_of

    net = DepthAnything(preset("tiny"), depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT)
    save_checkpoint(net, tmp_path / "s.safetensors", metadata={})
    recipe = recipe_from_dict(
        {"name": "r", "checkpoints": {"student": str(tmp_path / "s.safetensors")},
         "targets": [{"name": "onnx", "precisions": ["fp32"], "input_size": [28, 42]}]},
        where="test",
    )  # fmt: skip

    def key() -> str:
        stage = next(s for s in stages_of(recipe) if s.name == "60-validate-onnx-fp32")
        return stage.key(dict.fromkeys(stage.needs, "d"), 0)

    away = key()
    monkeypatch.setattr(targets, "get", lambda name: dataclasses.replace(target, not_here=None))
    assert key() != away
