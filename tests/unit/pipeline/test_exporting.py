"""`datk export`: where the weights come from and what the run folder keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from datk.artifact.files import sha256_file
from datk.errors import CheckpointError, DataError, UsageError
from datk.pipeline.exporting import ExportRequest, plan_export
from datk.quantize.sensitivity_map import SensitivityMap, UnitRow, write_map


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run made from a checkpoint that has gone since."""
    text = "name: r\ncheckpoints: {student: gone.pth, kind: relative}\ntargets: [{name: onnx, precisions: [fp32]}]\n"
    (tmp_path / "00-recipe.yaml").write_text(text)
    return tmp_path


def test_an_export_of_a_run_uses_its_own_copy_of_the_weights(run_dir: Path) -> None:
    plan = plan_export(ExportRequest(targets=("tflite",), run=run_dir, precisions=("fp16",)))
    assert plan.recipe.checkpoints.student == str(run_dir / "30-student" / "student.safetensors")
    assert plan.recipe.checkpoints.kind is None
    assert plan.whole.checkpoints.student == "gone.pth"


def test_a_run_keeps_its_earlier_targets_and_precisions(run_dir: Path) -> None:
    plan = plan_export(ExportRequest(targets=("onnx", "tflite"), run=run_dir, precisions=("int8",)))
    assert [(t.name, t.precisions) for t in plan.recipe.targets] == [("onnx", ("int8",)), ("tflite", ("int8",))]
    assert [(t.name, t.precisions) for t in plan.whole.targets] == [("onnx", ("fp32", "int8")), ("tflite", ("int8",))]


def test_what_the_run_holds_already_of_a_target_is_compared_with_what_is_added(run_dir: Path) -> None:
    (run_dir / "50-export-onnx-fp32").mkdir()
    (run_dir / "50-export-onnx-fp32" / "manifest.json").write_text("{}")
    plan = plan_export(ExportRequest(targets=("onnx",), run=run_dir, precisions=("int8",)))
    assert plan.recipe.targets[0].precisions == ("fp32", "int8")
    other = plan_export(ExportRequest(targets=("onnx",), run=run_dir, precisions=("int8",), input_sizes=((28, 42),)))
    assert other.recipe.targets[0].precisions == ("int8",), "another size is another verdict"


def test_options_that_belong_to_a_checkpoint_are_refused_without_one(run_dir: Path) -> None:
    with pytest.raises(UsageError, match="--teacher goes with --checkpoint"):
        plan_export(ExportRequest(targets=("onnx",), run=run_dir, teacher="t.pth"))


def test_a_checkpoint_is_its_own_reference_and_says_so(tmp_path: Path) -> None:
    plan = plan_export(ExportRequest(targets=("onnx",), checkpoint=tmp_path / "my weights.pth"))
    assert plan.run_dir == Path("runs/my-weights")
    assert plan.recipe.checkpoints.teacher is None
    assert any("reference: self" in line for line in plan.said)


def test_other_calibration_photographs_do_not_quantise_anew_what_was_not_asked_for(run_dir: Path) -> None:
    recipe = run_dir / "00-recipe.yaml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("[fp32]", "[fp32, int8]"), encoding="utf-8")
    for precision in ("fp32", "int8"):
        folder = run_dir / f"50-export-onnx-{precision}"
        folder.mkdir()
        (folder / "manifest.json").write_text("{}")
    asked = {"targets": ("onnx",), "run": run_dir, "precisions": ("int8-weights",)}
    assert plan_export(ExportRequest(**asked)).recipe.targets[0].precisions == ("fp32", "int8", "int8-weights")
    other = plan_export(ExportRequest(**asked, calibration=run_dir))
    assert other.recipe.targets[0].precisions == ("fp32", "int8-weights")


def sensitivity_map(folder: Path, weights: Path, *, complete: bool = True) -> Path:
    errors = {"blocks.0.attn.qkv": 0.01, "blocks.1.mlp.fc2": 0.2, "head.conv": 0.05}
    rows = [UnitRow(name=n, level="layer", kind="linear", error=[e], abs_rel=[e]) for n, e in errors.items()]
    facts = {"weights_sha256": sha256_file(weights)}
    write_map(SensitivityMap(key="0", complete=complete, facts=facts, units=rows), folder / "map.json")
    return folder / "map.json"


def test_a_sensitivity_map_keeps_its_worst_layers_in_float_in_every_targets_scheme(tmp_path: Path) -> None:
    weights = tmp_path / "net.pth"
    weights.write_bytes(b"weights")
    asked = ExportRequest(
        targets=("onnx", "tflite"), checkpoint=weights, sensitivity=sensitivity_map(tmp_path, weights), keep_float=2
    )
    plan = plan_export(asked)
    for section in plan.recipe.targets:
        assert section.scheme is not None
        assert section.scheme.float_layers == (r"(^|\.)blocks\.1\.mlp\.fc2\.", r"(^|\.)head\.conv\.")
    assert any("2 most sensitive layers stay in float" in line for line in plan.said)


def test_a_sensitivity_map_adds_to_the_scheme_a_run_has_and_both_are_kept(run_dir: Path) -> None:
    recipe = run_dir / "00-recipe.yaml"
    recipe.write_text(recipe.read_text().replace("[fp32]}", "[fp32], scheme: {only: linears, float_layers: [neck]}}"))
    weights = run_dir / "30-student" / "student.safetensors"
    with pytest.raises(CheckpointError, match="cannot be read"):
        plan_export(ExportRequest(targets=("onnx",), run=run_dir, sensitivity=sensitivity_map(run_dir, recipe)))
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    asked = ExportRequest(
        targets=("onnx",),
        run=run_dir,
        precisions=("int8",),
        sensitivity=sensitivity_map(run_dir, weights),
        keep_float=1,
    )
    (kept,) = plan_export(asked).whole.targets
    assert kept.scheme is not None and kept.scheme.only == "linears"
    assert kept.scheme.float_layers == ("neck", r"(^|\.)blocks\.1\.mlp\.fc2\.")


def test_a_sensitivity_map_of_other_weights_or_half_measured_is_refused_with_the_command(tmp_path: Path) -> None:
    weights, other = tmp_path / "net.pth", tmp_path / "other.pth"
    weights.write_bytes(b"weights")
    other.write_bytes(b"others")
    with pytest.raises(DataError, match="of other weights") as caught:
        plan_export(ExportRequest(targets=("onnx",), checkpoint=weights, sensitivity=sensitivity_map(tmp_path, other)))
    assert "datk quantize sensitivity --checkpoint" in (caught.value.hint or "")
    half = sensitivity_map(tmp_path, weights, complete=False)
    with pytest.raises(DataError, match="not complete"):
        plan_export(ExportRequest(targets=("onnx",), checkpoint=weights, sensitivity=half))


def test_an_option_typed_is_the_recipes_own_and_goes_to_the_targets_that_have_it(tmp_path: Path) -> None:
    asked = ExportRequest(targets=("tflite", "onnx"), checkpoint=tmp_path / "n.pth", options=("gpu=true",))
    assert [(t.name, t.options) for t in plan_export(asked).recipe.targets] == [("tflite", {"gpu": True}), ("onnx", {})]
    named = ExportRequest(targets=("tflite",), checkpoint=tmp_path / "n.pth", options=("tflite.gpu=no",))
    assert plan_export(named).recipe.targets[0].options == {"gpu": False}


def test_a_runs_options_stay_unless_others_are_typed_and_only_equal_ones_are_compared(run_dir: Path) -> None:
    recipe = run_dir / "00-recipe.yaml"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("{name: onnx,", "{name: tflite, options: {gpu: true},"), encoding="utf-8")
    (run_dir / "50-export-tflite-fp32").mkdir()
    (run_dir / "50-export-tflite-fp32" / "manifest.json").write_text("{}")
    asked = {"targets": ("tflite",), "run": run_dir, "precisions": ("fp16",)}
    (kept,) = plan_export(ExportRequest(**asked)).recipe.targets
    assert kept.options == {"gpu": True} and kept.precisions == ("fp32", "fp16")
    (other,) = plan_export(ExportRequest(**asked, options=("gpu=false",))).recipe.targets
    assert other.options == {"gpu": False} and other.precisions == ("fp16",)


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (("tflite",), ("gpo=true",), r"no option 'gpo', did you mean 'gpu'"),
        (("onnx", "tflite"), ("threads=4",), "onnx and tflite have no option 'threads'"),
        (("tflite",), ("gpu=perhaps",), "gpu=perhaps: target 'tflite': Input should be a valid boolean"),
        (("tflite",), ("gpu",), "is not KEY=VALUE"),
        (("tflite",), ("gpu=true", "tflite.gpu=false"), "given twice"),
        (("tflite",), ("coreml.gpu=true",), "'coreml' is not exported here"),
        (("onnx",), ("gpu=true",), "target 'onnx' has no option 'gpu'"),
    ],
)
def test_a_wrong_option_is_told_with_the_targets_options(
    tmp_path: Path, names: tuple[str, ...], options: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        plan_export(ExportRequest(targets=names, checkpoint=tmp_path / "n.pth", options=options))
    assert "twice" in words or f"options of {names[0]}: " in str(caught.value.hint)
    assert "tflite" not in names or "twice" in words or "gpu (boolean, default false)" in str(caught.value.hint)
