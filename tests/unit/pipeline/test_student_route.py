"""What a student's keys change about the route: which stages there are, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datk.config.load import recipe_from_dict
from datk.errors import EnvironmentLacks, RecipeError, UsageError
from datk.pipeline.route import stages_of
from datk.pipeline.stage import Stage


def _stages(student: dict[str, Any], targets: tuple[dict[str, Any], ...] = (), **more: Any) -> dict[str, Stage]:
    student = {"size": "tiny", **student}
    value = {"name": "r", "teacher": {"size": "tiny"}, "student": student, "targets": list(targets), **more}
    return {stage.name: stage for stage in stages_of(recipe_from_dict(value, where="test"))}


def test_labelled_images_make_the_student_wait_for_the_synthetic_ones() -> None:
    assert "05-synthetic" in _stages({"labelled": {"every": 3}})["30-student"].needs
    assert "05-synthetic" not in _stages({})["30-student"].needs


def test_each_teacher_has_a_share_and_a_folder_of_labels(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="do not belong together"):
        _stages({"teacher_weights": [7.0, 3.0]})
    photos = {"more_labels": [str(tmp_path)]}
    with pytest.raises(EnvironmentLacks, match="finished pseudo-labels; datk pseudo-label"):
        _stages({"teacher_weights": [7.0, 3.0]}, photos=photos)
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(RecipeError, match="do not belong together"):
        _stages({}, photos=photos)
    found = _stages({"teacher_weights": [7.0, 3.0]}, photos=photos)["30-student"]
    assert [role for role, _, _ in found.files] == ["more labels"]


def test_a_target_that_cannot_take_the_students_encoder_is_refused_before_training() -> None:
    student = {"encoder": {"family": "beit"}}
    assert "50-export-onnx-fp32" in _stages(student, ({"name": "onnx", "precisions": ["fp32"]},))
    with pytest.raises(UsageError, match="target 'onnx' in int8: the net's encoder is beit"):
        _stages(student, ({"name": "onnx"},))
