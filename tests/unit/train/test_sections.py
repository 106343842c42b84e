"""The learning stages' recipe sections refuse what cannot work, with words that help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from datk.config.train_sections import (
    LossSection,
    PseudoLabelSection,
    ScheduleSection,
    StudentSection,
    TeacherSection,
)


def test_paper_defaults_stand_in_the_sections() -> None:
    teacher, student = TeacherSection(), StudentSection()
    assert (teacher.schedule.steps, teacher.schedule.batch_size) == (160_000, 64)
    assert (student.schedule.steps, student.schedule.batch_size) == (480_000, 192)
    assert (teacher.schedule.encoder_lr, teacher.schedule.decoder_lr) == (5e-6, 5e-5), "encoder is the slow one"
    assert teacher.loss.gradient_weight == 2 * teacher.loss.ssi_weight
    assert (teacher.loss.top_loss_fraction, student.loss.top_loss_fraction) == (0.0, 0.1)


@pytest.mark.parametrize("value", [126, "126", [126, 126], (126, 126)])
def test_a_size_may_be_written_in_four_ways(value: Any) -> None:
    assert TeacherSection(input_size=value).input_size == (126, 126)
    assert PseudoLabelSection(input_size=value).input_size == (126, 126)


def test_a_size_off_the_patch_names_the_two_nearest() -> None:
    with pytest.raises(ValidationError, match="500 is not a multiple of 14; nearest are 490 and 504"):
        StudentSection(input_size=(500, 518))


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        (TeacherSection, {"init": "checkpoint"}, "belong together"),
        (TeacherSection, {"checkpoint": Path("x.pth")}, "belong together"),
        (StudentSection, {"feature_source": "dinov2_checkpoint"}, "teacher_encoder or off"),
        (StudentSection, {"feature_source": "random"}, "teacher_encoder"),
        (LossSection, {"gradient_wieght": 1.0}, "Extra inputs"),
        (ScheduleSection, {"steps": "many"}, "integer"),
    ],
)
def test_what_cannot_work_is_refused(section: type, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        section(**values)


def test_sections_survive_json() -> None:
    section = StudentSection(dinov2_checkpoint=Path("dinov2.pth"), feature_source="dinov2_checkpoint")
    assert StudentSection.model_validate_json(section.model_dump_json()) == section
