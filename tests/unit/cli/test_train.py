"""datk train: plans before anything starts, and what a recipe does not have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Ended


def test_a_plan_names_gpu_hours_of_every_known_card_and_starts_nothing(datk: Callable[..., Ended]) -> None:
    ended = datk("train", "teacher", "smoke", "--plan", "--json")
    assert ended.code == 0, ended.err
    plans = json.loads(ended.out)
    assert plans["labels"]["images"] > 0 and plans["labels"]["projections"][0]["gpu_hours"] > 0
    planned = plans["teacher"]
    assert planned["parameters"] > 4e6 and planned["memory_bytes"] > 0 and planned["images"] == 48
    assert {p["gpu"]: p["gpu_hours"] > 0 for p in planned["projections"]} == {"a100": True, "h100": True}


def test_a_stage_the_recipe_does_not_have_is_refused_with_those_it_has(datk: Callable[..., Ended]) -> None:
    ended = datk("train", "metric", "smoke")
    assert ended.code == 2
    assert "smoke has no metric to train" in ended.err and "it has: teacher, student" in ended.err


def test_processes_that_cannot_share_a_batch_are_told_before_anything_is_rendered(
    datk: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "8")
    ended = datk("run", "quickstart", "--until", "student", "--out", "r")
    assert ended.code == 2 and not (tmp_path / "r").exists()
    assert "teacher.schedule.batch_size: 12 images cannot be shared evenly by 8 processes" in ended.err
    planned = datk("train", "teacher", "quickstart", "--plan", "--gpu", "a100", "--gpus", "8")
    assert planned.code == 2 and "set batch_size to 8 or 16" in planned.err, "a plan that would not run is no plan"


def test_a_paper_recipe_without_its_data_ends_with_exit_4_and_a_list(datk: Callable[..., Ended]) -> None:
    ended = datk("train", "metric", "paper/metric_outdoor")
    assert ended.code == 4
    assert "data/vkitti2: Virtual KITTI 2" in ended.err and "weights/depth_anything_v2_vits.pth" in ended.err
    assert "a relative student to start from" in ended.err and "dinov2" not in ended.err
    pilot = datk("train", "teacher", "paper/table_13/sam_l")
    assert "weights/sam_vit_large: weights of the encoder sam: huggingface.co/facebook/sam-vit-*" in pilot.err


def test_the_papers_recipes_are_listed_with_their_tables(datk: Callable[..., Ended]) -> None:
    listed = json.loads(datk("recipes", "list", "--paper", "--json").out)
    assert {"name": "paper/table_9/irs", "paper": "Table 9, IRS"}.items() <= next(
        r for r in listed["recipes"] if r["name"] == "paper/table_9/irs"
    ).items()
    assert listed["out_of_scope"] == {"Table 8": "semantic segmentation"}
