"""Teacher and metric net on data sets in their true formats: what a recipe says is what is trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datk.artifact.manifest import read_manifest
from datk.config.load import recipe_from_dict
from datk.config.schema import Recipe
from datk.errors import EnvironmentLacks, RecipeError, UsageError
from datk.pipeline.execute import Selection
from datk.pipeline.route import stages_of
from datk.pipeline.run import plan, run
from datk.pipeline.steps import weights
from tests.unit.data.layouts import WRITERS

SCHEDULE = {"steps": 3, "batch_size": 2, "device": "cpu", "precision": "fp32", "encoder_lr": 1e-4, "decoder_lr": 1e-3}
TEACHER = {"size": "tiny", "input_size": "28x28", "loss": {"output": "raw", "scale_floor": 0.01}, "schedule": SCHEDULE}
METRIC = {
    "size": "tiny",
    "input_size": "28x28",
    "max_depth_m": 20.0,
    "schedule": SCHEDULE | {"optimiser": "adamw", "decay": "poly"},
}


class Notes:
    def __init__(self) -> None:
        self.said: list[str] = []

    def stage(self, name: str, title: str, state: str) -> None: ...

    def progress(self, done: int, total: int, what: str = "", stage: str = "") -> None: ...

    def note(self, text: str) -> None:
        self.said.append(text)


def recipe(folder: Path, *sets: str, **other: Any) -> Recipe:
    """A recipe on tiny sets written into folder in their own formats."""
    listed = []
    for name in sets:
        root = folder / "data" / name
        if not root.is_dir():
            WRITERS[name].write(root)
        listed.append({"name": name, "root": str(root)})
    return recipe_from_dict({"name": "toy", "data": listed} | other, where="test")


def test_a_teacher_learns_from_a_mixture_of_sets_and_the_manifest_says_which(tmp_path: Path) -> None:
    wanted = recipe(tmp_path, "hypersim", "tartanair", "vkitti2", "irs", "blendedmvs", teacher=TEACHER)
    assert [s.name for s in stages_of(wanted)] == ["05-data", "10-teacher"]
    notes = Notes()
    result = run(wanted, tmp_path / "run", Selection(until="teacher"), reporter=notes)
    manifest = result.manifests["10-teacher"]
    counts = {"hypersim": 3, "tartanair": 2, "vkitti2": 2, "irs": 2, "blendedmvs": 2}
    assert {d.name: d.n for d in manifest.datasets} == counts
    assert manifest.metrics["unreadable_images"].value == 0
    assert "hypersim: 3 images" in notes.said
    assert any("tartanair" in line and "1 left out" in line for line in notes.said), "the dome of `amusement` is named"
    checkpoint = weights.read(tmp_path / "run" / "10-teacher" / "teacher.safetensors")
    assert checkpoint.metadata["training_data"] == ", ".join(counts)
    assert "trained on hypersim (" in checkpoint.licence


def test_a_set_that_changed_is_trained_on_again(tmp_path: Path) -> None:
    wanted = recipe(tmp_path, "vkitti2", teacher=TEACHER)
    run(wanted, tmp_path / "run", Selection(until="data"), reporter=Notes())
    assert plan(wanted, tmp_path / "run", Selection(until="data"))[0].state == "built"
    frames = tmp_path / "data" / "vkitti2" / "Scene01" / "clone" / "frames"
    for kind, ending in (("rgb", "jpg"), ("depth", "png")):
        first = frames / kind / "Camera_0" / f"{kind}_00000.{ending}"
        first.with_name(f"{kind}_00001.{ending}").write_bytes(first.read_bytes())
    assert plan(wanted, tmp_path / "run", Selection(until="data"))[0].state == "run"


def test_what_is_missing_is_told_at_once_with_where_to_get_it(tmp_path: Path) -> None:
    value = {
        "name": "toy",
        "data": [{"name": name, "root": str(tmp_path / name)} for name in ("hypersim", "vkitti2")],
        "teacher": TEACHER | {"init": "checkpoint", "checkpoint": str(tmp_path / "dinov2.pth")},
    }
    with pytest.raises(EnvironmentLacks) as caught:
        stages_of(recipe_from_dict(value, where="test"))
    assert caught.value.exit_code == 4
    for part in ("3 things", "Hypersim, from https://", "Virtual KITTI 2, from https://", "dinov2.pth"):
        assert part in caught.value.message


def test_a_metric_net_is_trained_on_metres_and_exported_as_metres(tmp_path: Path) -> None:
    targets = [{"name": "onnx", "precisions": ["fp32"]}]
    few = {"photos": {"validation_count": 2}, "validate": {"latency_runs": 1}}
    wanted = recipe(tmp_path, "hypersim", "vkitti2", metric=METRIC, targets=targets, **few)
    run(wanted, tmp_path / "run", Selection(until="export"), reporter=Notes())
    checkpoint = weights.read(tmp_path / "run" / "30-student" / "student.safetensors")
    assert (checkpoint.depth_kind.value, checkpoint.max_depth_m) == ("depth_metric_m", 20.0)
    exported = tmp_path / "run" / "50-export-onnx-fp32"
    contract = json.loads((exported / "contract.json").read_text())
    assert contract["depth_kind"] == "depth_metric_m"
    manifest = read_manifest(tmp_path / "run" / "30-student")
    assert manifest.facts["max_depth_m"] == 20.0 and manifest.facts["sets"] == {"hypersim": 3, "vkitti2": 2}

    import onnxruntime

    session = onnxruntime.InferenceSession(exported / manifest_artifact(exported), providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0]
    values = session.run(None, {taken.name: np.full(taken.shape, 128, np.uint8)})[0]
    assert values.min() > 0 and values.max() < 20


def manifest_artifact(folder: Path) -> str:
    return str(read_manifest(folder).facts["artifact"])


def test_a_set_without_metres_is_refused_for_metric_training(tmp_path: Path) -> None:
    wanted = recipe(tmp_path, "blendedmvs", metric=METRIC)
    with pytest.raises(UsageError, match="does not give depth in metres"):
        run(wanted, tmp_path / "run", Selection(until="metric"), reporter=Notes())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric": METRIC, "student": {}}, "takes the student's place; leave out student"),
        ({"metric": METRIC | {"keep_head": True}}, "keep_head: true needs a checkpoint"),
        ({"metric": METRIC | {"min_depth_m": 30.0}}, "is not below max_depth_m"),
        ({"data": [{"name": "irs", "root": "x", "share": 1.0}, {"name": "diml", "root": "y"}]}, "leave nothing to 1"),
        ({"teacher": TEACHER, "targets": [{"name": "onnx"}]}, "student: missing"),
    ],
)
def test_recipes_that_contradict_themselves_are_refused(change: dict[str, Any], words: str) -> None:
    base = {} if "metric" in change or "targets" in change else {"teacher": TEACHER}
    with pytest.raises(RecipeError, match=words):
        recipe_from_dict({"name": "toy"} | base | change, where="test")
