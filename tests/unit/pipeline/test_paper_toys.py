"""One of the paper's recipes of each kind, end to end on tiny sets in their true formats: only sizes are changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from datk.config.load import load_recipe
from datk.config.schema import Recipe
from datk.models.weights import save_checkpoint
from datk.pipeline.execute import Selection
from datk.pipeline.run import run
from datk.pipeline.steps import weights
from datk.train.start import fresh_net
from tests.unit.data.layouts import WRITERS, save_picture
from tests.unit.pipeline.test_labelled_stages import Notes

NET = {
    "size": "tiny",
    "input_size": "28x28",
    "checkpoint": "weights.safetensors",
    "schedule": {"steps": 2, "batch_size": 2, "micro_batch": None, "pictures_every": 0, "device": "cpu"}
    | {"precision": "fp32", "activation_checkpointing": False, "loader_threads": 1},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders the paper's recipes name, with a few pictures each."""
    for name in ("blendedmvs", "hypersim", "irs", "tartanair", "vkitti2", "hrwsi"):
        WRITERS[name].write(tmp_path / "data" / name)
    for number in range(2):
        save_picture(tmp_path / "data" / "sa1b" / f"sa_{number}.jpg", number)
    save_checkpoint(fresh_net("tiny", seed=1), tmp_path / "weights.safetensors", metadata={"licence": "Apache-2.0"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def smaller(name: str, **change: Any) -> Recipe:
    """A recipe file as a user would write it, which begins with the paper's."""
    path = Path("mine.yaml")
    path.write_text(yaml.safe_dump({"extends": f"paper/{name}", "name": "mine"} | json.loads(json.dumps(change))))
    return load_recipe(path)


def test_the_noisy_labels_of_figure_12_reach_the_teacher(here: Path) -> None:
    recipe = smaller("figure_12/noisy_real", teacher=NET)
    manifest = run(recipe, here / "run", Selection(until="teacher"), reporter=Notes()).manifests["10-teacher"]
    assert {d.name for d in manifest.datasets} == {"blendedmvs", "hypersim", "irs", "tartanair", "vkitti2", "hrwsi"}
    assert manifest.facts["started_from"] == "checkpoint"


def test_table_11_trains_a_student_on_five_labelled_sets_and_one_unlabelled(here: Path) -> None:
    recipe = smaller(
        "table_11/sa1b_only",
        checkpoints={"teacher": "weights.safetensors"},
        pseudo_labels={"input_size": "28x28"},
        photos={"labels": None},
        student=NET | {"dinov2_checkpoint": "weights.safetensors", "dinov2_size": "tiny"},
    )
    manifest = run(recipe, here / "run", Selection(until="student"), reporter=Notes()).manifests["30-student"]
    assert {d.name: d.n for d in manifest.datasets}["photographs"] == 2 and len(manifest.datasets) == 6
    assert manifest.facts["feature_source"] == "dinov2 weights.safetensors"


def test_metric_outdoor_gives_a_net_of_80_metres(here: Path) -> None:
    recipe = smaller("metric_outdoor", metric=NET)
    run(recipe, here / "run", Selection(until="metric"), reporter=Notes())
    checkpoint = weights.read(here / "run" / "30-student" / "student.safetensors")
    assert (checkpoint.depth_kind.value, checkpoint.max_depth_m) == ("depth_metric_m", 80.0)
    assert checkpoint.metadata["training_data"] == "vkitti2"
