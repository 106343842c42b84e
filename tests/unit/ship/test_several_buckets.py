"""Several sizes of one export: a folder each, a contract that lists all, one runner in front."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from datk.artifact.manifest import read_manifest
from datk.config.load import recipe_from_dict
from datk.depth.preprocess import parse_sizes
from datk.errors import DataError, RecipeError, UsageError
from datk.pipeline.models import open_model
from datk.pipeline.predict import predict_photos
from datk.pipeline.route import stages_of
from datk.pipeline.several_buckets import BucketRunner
from datk.pipeline.verifying import verify_export


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, exporter) -> dict[str, Path]:
    run_dir = tmp_path_factory.mktemp("runs") / "buckets"
    exporter(run_dir, checkpoint, {"name": "onnx", "precisions": ["fp32"], "buckets": ["56x98", "70x70"]})
    return {f.name.rpartition("-")[2]: f for f in run_dir.glob("50-export-*")}


def test_each_size_has_a_folder_that_verifies_and_lists_all(exports: dict[str, Path]) -> None:
    assert set(exports) == {"56x98", "70x70"}
    for size, folder in exports.items():
        assert not [c for c in verify_export(folder) if c.status == "failed"]
        contract = json.loads((folder / "contract.json").read_text())
        assert {tuple(b["input_size"]) for b in contract["buckets"]} == {(56, 98), (70, 70)}
        own = next(b for b in contract["buckets"] if b["folder"] == ".")
        assert "x".join(map(str, own["input_size"])) == size
        for bucket in contract["buckets"]:
            other = json.loads((folder / bucket["folder"] / "contract.json").read_text())
            assert other["input_size"] == bucket["input_size"]


def test_predict_takes_the_nearest_and_warns_of_stretch(exports: dict[str, Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, shape in (("wide", (40, 70)), ("square", (64, 60)), ("tall", (90, 30))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), rng.integers(0, 255, (*shape, 3), dtype=np.uint8))
    runner = open_model(exports["70x70"], all_buckets=True)
    assert isinstance(runner, BucketRunner)
    notes: list[str] = []
    predict_photos(runner, [tmp_path], tmp_path / "out", progress=lambda d, t: None, note=notes.append)
    assert [n.split(":")[0] for n in notes] == ["tall.png"] and "stretched by 200 % to fit 70x70" in notes[0]
    wide = cv2.cvtColor(cv2.imread(str(tmp_path / "wide.png")), cv2.COLOR_BGR2RGB)
    assert runner.fit(wide).bucket == (56, 98)
    alone = open_model(exports["56x98"])
    small = np.ascontiguousarray(cv2.resize(wide, (98, 56), interpolation=cv2.INTER_CUBIC))
    assert np.array_equal(runner.predict(small), alone.predict(small))
    with pytest.raises(DataError, match="one of 56x98, 70x70"):
        runner.predict(np.zeros((14, 14, 3), np.uint8))
    runner.close()


def test_one_size_can_be_named(exports: dict[str, Path]) -> None:
    runner = open_model(exports["70x70"], (56, 98), all_buckets=True)
    assert runner.input_size == (56, 98)
    with pytest.raises(UsageError, match="takes 70x70 only"):
        open_model(exports["70x70"], (14, 14), all_buckets=True)


def test_a_folder_that_was_not_taken_along_is_named(exports: dict[str, Path], copy_of) -> None:  # type: ignore[no-untyped-def]
    lonely = copy_of(exports["70x70"])
    with pytest.raises(DataError, match="the artifact for 56x98 is not there"):
        open_model(lonely, all_buckets=True)


def test_int8_is_quantised_at_every_size(checkpoint: Path) -> None:
    value = {
        "name": "b",
        "checkpoints": {"student": str(checkpoint)},
        "targets": [{"name": "onnx", "precisions": ["fp32", "int8"], "buckets": ["56x98", "70x70"]}],
    }
    stages = {s.name: s for s in stages_of(recipe_from_dict(value, where="test"))}
    for size in ("56x98", "70x70"):
        assert f"40-quantize-onnx-{size}" in stages[f"50-export-onnx-int8-{size}"].needs
        assert stages[f"60-validate-onnx-int8-{size}"].needs[:2] == ("30-student", f"50-export-onnx-int8-{size}")
    assert not any(n.startswith("40-") for n in stages["50-export-onnx-fp32-70x70"].needs)


@pytest.mark.parametrize("sizes", [{"buckets": ["56x98", "56x98"]}, {"buckets": ["56x98"], "input_size": "70x70"}])
def test_sizes_said_twice_are_refused(sizes: dict) -> None:
    value = {"name": "b", "checkpoints": {"student": "x.pth"}, "targets": [{"name": "onnx", **sizes}]}
    with pytest.raises(RecipeError, match="buckets"):
        recipe_from_dict(value, where="test")


def test_the_line_takes_several_sizes_and_names_the_wrong_one() -> None:
    assert parse_sizes("518x518,392x518, 252x336,518") == ((518, 518), (392, 518), (252, 336))
    with pytest.raises(UsageError, match="500 is not a multiple of 14"):
        parse_sizes("518,500x518")


def test_one_size_keeps_the_folder_names_of_before(onnx_export: Path) -> None:
    assert onnx_export.name == "50-export-onnx-fp32"
    assert json.loads((onnx_export / "contract.json").read_text())["buckets"] == []
    assert "buckets" not in read_manifest(onnx_export).section
