"""Recipes: strict, all problems at once, in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest

from datk.config.load import builtin_recipes, find_recipe, load_recipe, recipe_from_dict
from datk.errors import RecipeError

MINIMAL = {"name": "toy", "checkpoints": {"student": "x.pth"}}


def test_every_problem_is_listed_with_its_place_and_the_nearest_key() -> None:
    value = {
        **MINIMAL,
        "synthetic": {"cuont": 3, "renderer": "blender"},
        "targets": [{"name": "tflite", "precison": ["int8"], "input_size": 500}],
    }
    with pytest.raises(RecipeError) as caught:
        recipe_from_dict(value, where="phone.yaml")
    text = caught.value.message
    assert text.startswith("phone.yaml: 4 problems")
    assert "synthetic.cuont: unknown key; did you mean 'count'?" in text
    assert "targets[0].precison: unknown key; did you mean 'precisions'?" in text
    assert "targets[0].input_size: 500 is not a multiple of 14; nearest are 490 and 504" in text
    assert "synthetic.renderer" in text


@pytest.mark.parametrize(
    ("text", "size"), [("392x518", (392, 518)), (518, (518, 518)), ([252, 336], (252, 336)), ("14", (14, 14))]
)
def test_sizes_are_read_in_every_spelling(text: object, size: tuple[int, int]) -> None:
    recipe = recipe_from_dict({**MINIMAL, "targets": [{"name": "onnx", "input_size": text}]}, where="test")
    assert recipe.targets[0].input_size == size


def test_a_recipe_without_student_says_what_is_missing() -> None:
    with pytest.raises(RecipeError, match="student: missing"):
        recipe_from_dict({"name": "toy"}, where="test")


def test_run_names_cannot_leave_the_runs_folder() -> None:
    with pytest.raises(RecipeError, match="name"):
        recipe_from_dict({**MINIMAL, "name": "../evil"}, where="test")


def test_extends_merges_one_level(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: base\ncheckpoints: {student: a.pth, kind: relative}\nseed: 3\n")
    (tmp_path / "child.yaml").write_text("extends: base.yaml\nname: child\ncheckpoints: {student: b.pth}\n")
    recipe = load_recipe(tmp_path / "child.yaml")
    assert (recipe.name, recipe.seed) == ("child", 3)
    assert (recipe.checkpoints.student, recipe.checkpoints.kind) == ("b.pth", "relative")


def test_extends_of_extends_is_laid_over_both(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: quickstart\nname: a\nseed: 5\nsynthetic: {count: 9}\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\nname: b\nsynthetic: {renderer: embreex}\n")
    recipe = load_recipe(tmp_path / "b.yaml")
    assert (recipe.name, recipe.seed, recipe.synthetic.count) == ("b", 5, 9)
    assert (recipe.synthetic.renderer, recipe.synthetic.size) == ("embreex", (126, 168))


def test_a_bare_off_in_yaml_means_the_word(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: quickstart\nname: a\nstudent: {feature_source: off}\n")
    student = load_recipe(tmp_path / "a.yaml").student
    assert student is not None and student.feature_source == "off"


def test_a_circle_of_extends_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\nname: a\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\nname: b\n")
    with pytest.raises(RecipeError, match="which extends it"):
        load_recipe(tmp_path / "b.yaml")


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "", "just words"])
def test_files_that_are_no_recipe_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=r"r\.yaml"):
        load_recipe(tmp_path / "r.yaml")


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(f"!!python/object/apply:os.system ['touch {tmp_path}/owned']")
    with pytest.raises(RecipeError):
        load_recipe(tmp_path / "r.yaml")
    assert not (tmp_path / "owned").exists()


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError) as caught:
        find_recipe("quikstart")
    assert "quickstart" in (caught.value.hint or "")


@pytest.mark.parametrize("name", sorted(builtin_recipes()))
def test_every_shipped_recipe_is_valid_and_found_by_name_and_path(name: str) -> None:
    assert load_recipe(find_recipe(name)).description
    assert find_recipe(f"recipes/{name}.yaml").name == f"{name.split('/')[-1]}.yaml"


def test_recipes_round_trip_through_the_run_folder() -> None:
    import yaml

    from datk.pipeline.run import recipe_text

    recipe = load_recipe(find_recipe("quickstart"))
    assert recipe_from_dict(yaml.safe_load(recipe_text(recipe)), where="test") == recipe
