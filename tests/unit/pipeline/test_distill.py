"""`datk distill`: what a short line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from datk.errors import UsageError
from datk.pipeline.distill import DistillRequest, distill_recipe, parse_budget


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("2d", 172800)])
def test_budgets_are_durations(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["10", "m", "-5m", "0s", "10 minutes"])
def test_nonsense_budgets_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--budget"):
        parse_budget(text)


def test_without_images_and_teacher_it_takes_the_embedded_default_and_says_so() -> None:
    recipe, said = distill_recipe(DistillRequest(size="small"))
    assert recipe.name == "distill-small"
    assert recipe.student is not None and recipe.student.size == "small"
    assert recipe.student.schedule.budget_s == 600
    assert recipe.teacher is not None and recipe.photos.images == "builtin"
    assert any("--images" in line for line in said) and any("--teacher" in line for line in said)


def test_own_images_without_budget_follow_the_papers_schedule() -> None:
    recipe, _ = distill_recipe(DistillRequest(size="small", images=Path("photos")))
    assert recipe.student is not None
    schedule = recipe.student.schedule
    assert (schedule.steps, schedule.batch_size, schedule.encoder_lr, schedule.decoder_lr) == (480_000, 192, 5e-6, 5e-5)
    assert recipe.student.input_size == (518, 518)
    assert recipe.student.loss.top_loss_fraction == 0.1
    assert recipe.student.loss.gradient_weight == 2.0


def test_a_teacher_checkpoint_replaces_the_trained_one() -> None:
    recipe, _ = distill_recipe(DistillRequest(size="tiny", teacher="t.pth"))
    assert recipe.teacher is None and recipe.checkpoints.teacher == "t.pth"


def test_budget_and_input_size_reach_the_student() -> None:
    recipe, _ = distill_recipe(DistillRequest(size="base", budget_s=60, input_size=(140, 182)))
    assert recipe.student is not None
    assert recipe.student.schedule.budget_s == 60
    assert recipe.student.input_size == (140, 182)


def test_a_pretrained_encoder_is_start_and_feature_source() -> None:
    recipe, _ = distill_recipe(DistillRequest(size="small", encoder=Path("dinov2_vits14.pth")))
    assert recipe.student is not None
    assert recipe.student.feature_source == "dinov2_checkpoint"
    assert (recipe.student.init, recipe.student.dinov2_size) == ("checkpoint", "small")
