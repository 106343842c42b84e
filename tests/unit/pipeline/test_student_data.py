"""What a student learns from: pseudo-labels of several sources, labelled sets, both, or labels made before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datk.config.load import recipe_from_dict
from datk.config.schema import Recipe
from datk.config.train_sections import PseudoLabelSection
from datk.data.sources import open_images
from datk.errors import EnvironmentLacks, RecipeError
from datk.models.weights import save_checkpoint
from datk.pipeline.execute import Selection
from datk.pipeline.route import stages_of
from datk.pipeline.run import run
from datk.pipeline.steps import weights
from datk.train.labelling.net_teacher import NetTeacher
from datk.train.pseudo_label import label_images
from datk.train.start import fresh_net
from tests.unit.data.layouts import WRITERS, save_picture
from tests.unit.pipeline.test_labelled_stages import SCHEDULE, Notes

STUDENT = {
    "size": "tiny",
    "input_size": "28x28",
    "feature_source": "off",
    "loss": {"output": "raw", "scale_floor": 0.01},
    "schedule": SCHEDULE,
}
UNTIL = Selection(until="student")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of the paper's unlabelled sets and two labelled ones, in their own layouts, and a teacher."""
    folder = tmp_path_factory.mktemp("data")
    for number in range(3):
        save_picture(folder / "sa1b" / f"sa_{number}.jpg", number)
        save_picture(folder / "places365" / "data_large" / "a" / "attic" / f"0000000{number}.jpg", number + 5)
    for name in ("vkitti2", "hrwsi", "diml"):
        WRITERS[name].write(folder / name)
    save_checkpoint(fresh_net("tiny", seed=1), folder / "teacher.safetensors", metadata={"licence": "MIT"})
    return folder


def recipe(here: Path, *sets: str, student: dict[str, Any], **other: Any) -> Recipe:
    value = {
        "name": "toy",
        "checkpoints": {"teacher": str(here / "teacher.safetensors")},
        "pseudo_labels": {"input_size": "28x28"},
        "data": [{"name": name, "root": str(here / name)} for name in sets],
        "student": STUDENT | student,
    }
    return recipe_from_dict(value | other, where="test")


def unlabelled(here: Path) -> dict[str, Any]:
    return {"images": [f"sa1b:{here / 'sa1b'}", f"places365:{here / 'places365'}"]}


def learnt(folder: Path) -> str:
    return weights.read(folder / "30-student" / "student.safetensors").metadata["training_data"]


def test_several_unlabelled_sets_are_put_end_to_end_each_with_its_own_layout(here: Path) -> None:
    images = open_images(";".join(unlabelled(here)["images"]))
    assert len(images) == 6
    assert [images.key(i) for i in (0, 3)] == ["0/sa_0.jpg", "1/data_large/a/attic/00000000.jpg"]
    assert images.read(3).shape == (24, 32, 3)


def test_a_student_learns_from_pseudo_labels_of_several_sets_beside_a_labelled_one(here: Path, tmp_path: Path) -> None:
    both = recipe(here, "vkitti2", student={"labelled": {"every": 2}}, photos=unlabelled(here))
    assert [s.name for s in stages_of(both)][:4] == ["05-data", "10-teacher", "20-pseudo-labels", "30-student"]
    result = run(both, tmp_path, UNTIL, reporter=Notes())
    found = {d.name: d.n for d in result.manifests["30-student"].datasets}
    assert found == {"photographs": 6, "vkitti2": 2}
    assert learnt(tmp_path) == "pseudo-labelled photographs and vkitti2"


def test_a_student_of_labelled_images_alone_needs_no_teacher(here: Path, tmp_path: Path) -> None:
    noisy = [
        {"name": "vkitti2", "root": str(here / "vkitti2")},
        {"name": "hrwsi", "root": str(here / "hrwsi"), "split": "train", "share": 0.05},
    ]
    alone = recipe(here, student={"learn_from": "labelled"}, checkpoints={}, data=noisy)
    assert [s.name for s in stages_of(alone)] == ["05-data", "30-student", "60-validate-student"]
    result = run(alone, tmp_path, UNTIL, reporter=Notes())
    assert {d.name for d in result.manifests["30-student"].datasets} == {"vkitti2", "hrwsi"}
    assert learnt(tmp_path) == "vkitti2, hrwsi"
    assert result.manifests["05-data"].facts["sets"]["hrwsi"]["share"] == 0.05


def test_the_pictures_of_a_labelled_set_can_be_labelled_anew(here: Path) -> None:
    images = open_images(f"diml:{here / 'diml'}#test/outdoor/LR")
    assert [images.key(i) for i in range(len(images))] == ["outdoor/test/LR/outleft/0100.png"]
    assert images.read(0).shape == (24, 32, 3)


def test_labels_of_several_sets_are_put_end_to_end(here: Path, tmp_path: Path) -> None:
    teacher = NetTeacher(fresh_net("tiny", seed=1), source="test", licence="MIT", input_size=(28, 28), device="cpu")
    photos = unlabelled(here) | {"labels": [str(tmp_path / name) for name in ("one", "two")]}
    for spec, folder in zip(photos["images"], photos["labels"], strict=True):
        label_images(teacher, open_images(spec), Path(folder), PseudoLabelSection(input_size=(28, 28)))
    both = recipe(here, student={}, checkpoints={}, photos=photos)
    result = run(both, tmp_path / "run", UNTIL, reporter=Notes())
    assert [d.n for d in result.manifests["30-student"].datasets] == [3, 3]
    assert result.manifests["30-student"].facts["images"] == 6
    with pytest.raises(RecipeError, match=r"1 folder\(s\) for 2 entries"):
        recipe(here, student={}, checkpoints={}, photos=photos | {"labels": photos["labels"][:1]})


def test_labels_made_before_are_taken_as_they_lie(here: Path, tmp_path: Path) -> None:
    source = open_images(f"sa1b:{here / 'sa1b'}")
    teacher = NetTeacher(fresh_net("tiny", seed=1), source="test", licence="MIT", input_size=(28, 28), device="cpu")
    labels = tmp_path / "labels"
    photos = {"labels": str(labels)}
    with pytest.raises(EnvironmentLacks, match="finished pseudo-labels; datk pseudo-label"):
        stages_of(recipe(here, student={}, checkpoints={}, photos=photos))
    label_images(teacher, source, labels, PseudoLabelSection(input_size=(28, 28)))
    taken = recipe(here, student={}, checkpoints={}, photos=photos)
    result = run(taken, tmp_path / "run", UNTIL, reporter=Notes())
    assert list(result.manifests) == ["20-pseudo-labels", "30-student"]
    assert result.manifests["30-student"].weights[0].licence == "MIT"


def test_seeds_of_the_student_alone_share_teacher_and_labels(here: Path) -> None:
    keys = []
    for seed in (1, 2):
        stages = stages_of(recipe(here, student={"seed": seed}, photos=unlabelled(here)))
        keys.append({s.name: s.key(dict.fromkeys(s.needs, ""), 0) for s in stages})
    assert keys[0]["20-pseudo-labels"] == keys[1]["20-pseudo-labels"]
    assert keys[0]["30-student"] != keys[1]["30-student"]


@pytest.mark.parametrize(
    ("student", "words"),
    [
        ({"learn_from": "labelled", "labelled": {"every": 2}}, "leaves no pseudo-label for labelled"),
        ({"feature_source": "teacher_encoder"}, "teacher: missing"),
        ({}, "teacher: missing"),
    ],
)
def test_students_without_what_they_learn_from_are_refused(here: Path, student: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        recipe(here, student=student, checkpoints={})
