"""The paper's own recipes: every table and figure it trains for, with its hyperparameters, planned without any data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from datk.cli.recipes import OUT_OF_SCOPE
from datk.config.load import builtin_recipes, load_recipe
from datk.config.schema import Recipe
from datk.data.sources.presets import PRESETS
from datk.errors import EnvironmentLacks
from datk.pipeline.route import stages_of
from datk.pipeline.training_plan import plan_json, training_plans

PAPER = {name: load_recipe(path) for name, path in builtin_recipes().items() if name.startswith("paper/")}
FIVE = ["blendedmvs", "hypersim", "irs", "tartanair", "vkitti2"]


def repeats(words: str) -> list[str]:
    """Recipes that name a table or figure."""
    pattern = re.compile(rf"\b{words}\b")
    return [name for name, recipe in PAPER.items() if pattern.search(recipe.paper)]


def trained(recipe: Recipe) -> Any:
    return recipe.student or recipe.metric or recipe.teacher


def test_every_training_table_and_figure_has_its_recipes() -> None:
    counts = {"Table 4a": 1, "Table 4b": 1, "Table 6": 2, "Table 9": 6, "Table 10": 9, "Table 11": 1, "Table 13": 7}
    assert {table: len(repeats(table)) for table in counts} == counts
    for size in "SBL":
        assert repeats(f"Table 5, {size} labelled") and repeats(f"Table 5, {size} labelled \\+ pseudo")
        assert any(f"5 and 14, V2 {size}" in recipe.paper for recipe in PAPER.values())
    assert len(repeats(r"Fig\. 10")) == 2 and len(repeats(r"Fig\. 12")) == 1
    assert list(OUT_OF_SCOPE) == ["Table 8"] and not repeats("Table 8")


@pytest.mark.parametrize("name", sorted(PAPER))
def test_every_paper_recipe_says_what_it_repeats_and_has_a_name_of_its_own(name: str) -> None:
    recipe = PAPER[name]
    assert recipe.paper and recipe.description
    assert [r.name for r in PAPER.values()].count(recipe.name) == 1


def check_plan(name: str) -> None:
    plans = plan_json(training_plans(PAPER[name], measure=False))
    section = trained(PAPER[name])
    found = plans["student" if PAPER[name].student else "metric" if PAPER[name].metric else "teacher"]
    assert found["images"] == section.schedule.steps * section.schedule.batch_size
    assert found["parameters"] > 20e6 and found["memory_bytes"] > 0 and found["flops_per_image"] > 0


@pytest.mark.parametrize("name", ["student_s", "table_5/s_labelled", "metric_nyu"])
def test_a_paper_recipe_is_planned_before_its_data_is_there(name: str) -> None:
    check_plan(f"paper/{name}")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PAPER))
def test_every_paper_recipe_is_planned_before_its_data_is_there(name: str) -> None:
    check_plan(name)


@pytest.mark.parametrize("name", sorted(PAPER))
def test_without_the_data_a_paper_recipe_says_what_to_get(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EnvironmentLacks, match="that are not here") as caught:
        stages_of(PAPER[name])
    assert caught.value.exit_code == 4


def test_teacher_and_students_have_the_papers_hyperparameters() -> None:
    teacher = PAPER["paper/teacher_vitg"]
    assert [s.name for s in teacher.data] == FIVE and all(s.share is None for s in teacher.data)
    assert teacher.teacher is not None and teacher.teacher.size == "giant"
    sizes = {"s": "small", "b": "base", "l": "large", "g": "giant"}
    students = {key: PAPER[f"paper/student_{key}"].student for key in sizes}
    for section, steps, batch in [(teacher.teacher, 160_000, 64), *[(s, 480_000, 192) for s in students.values()]]:
        assert section is not None
        schedule, loss = section.schedule, section.loss
        assert (schedule.steps, schedule.batch_size, schedule.optimiser) == (steps, batch, "adam")
        assert (schedule.encoder_lr, schedule.decoder_lr) == (5e-6, 5e-5)
        assert (loss.ssi_weight, loss.gradient_weight, loss.alignment) == (1.0, 2.0, "median")
        assert section.input_size == (518, 518) and section.init == "checkpoint"
    assert teacher.teacher.loss.top_loss_fraction == 0
    for key, size in sizes.items():
        student = students[key]
        assert student is not None and (student.size, student.dinov2_size) == (size, size)
        assert student.loss.top_loss_fraction == 0.1 and student.labelled is None
        assert (student.loss.feature_margin, student.loss.feature_margin_on) == (0.85, "cosine")
    kinds = [spec.split(":")[0] for spec in PAPER["paper/student_s"].photos.image_specs]
    assert sorted(kinds) == sorted(PRESETS)


def test_the_ablations_change_what_their_table_varies_and_nothing_else() -> None:
    for name in (n for n in PAPER if n.startswith("paper/table_10/")):
        recipe = PAPER[name]
        assert recipe.student is not None and recipe.student == PAPER["paper/table_5/s_labelled_and_pseudo"].student
        assert recipe.photos.images.split(":")[0] == name.split("/")[-1] and len(recipe.photos.label_folders) == 1
    for name in (n for n in PAPER if n.startswith("paper/table_9/")):
        assert PAPER[name].teacher == PAPER["paper/table_5/l_labelled"].teacher
        assert [s.name for s in PAPER[name].data] == [name.split("/")[-1]]
    weights = [PAPER[f"paper/figure_10/gradient_{w}"].teacher for w in ("0_5", "4_0")]
    assert [w.loss.gradient_weight for w in weights if w is not None] == [0.5, 4.0]
    noisy = {s.name: s.share for s in PAPER["paper/figure_12/noisy_real"].data}
    assert noisy == dict.fromkeys(FIVE) | {"hrwsi": 0.05}
    manual, pseudo = PAPER["paper/table_6/manual"].student, PAPER["paper/table_6/pseudo"].student
    assert manual is not None and pseudo is not None
    assert manual.learn_from == "labelled" and pseudo.learn_from == "pseudo_labels"
    assert manual.schedule == pseudo.schedule
    both = PAPER["paper/table_5/l_labelled_and_pseudo"].student
    assert both is not None and both.labelled is not None and both.labelled.every == 3


@pytest.mark.parametrize(
    ("name", "limit", "sets"),
    [("indoor", 20.0, "hypersim"), ("outdoor", 80.0, "vkitti2"), ("nyu", 10.0, "nyuv2"), ("kitti", 80.0, "kitti")],
)
def test_metric_recipes_have_the_metric_codes_hyperparameters(name: str, limit: float, sets: str) -> None:
    recipe = PAPER[f"paper/metric_{name}"]
    assert recipe.metric is not None and recipe.metric.max_depth_m == limit and not recipe.metric.keep_head
    assert [s.name for s in recipe.data] == [sets]
    schedule = recipe.metric.schedule
    assert (schedule.optimiser, schedule.weight_decay) == ("adamw", 0.01)
    if name in ("indoor", "outdoor"):
        assert (schedule.encoder_lr, schedule.decoder_lr, schedule.decay) == (5e-6, 5e-5, "poly")
        assert (schedule.batch_size, schedule.micro_batch, recipe.metric.silog_over) == (32, 4, "batch")
