"""`datk export`: where the weights come from and what the run folder keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from datk.errors import UsageError
from datk.pipeline.exporting import ExportRequest, plan_export


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
