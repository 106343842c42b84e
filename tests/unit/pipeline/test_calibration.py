"""The calibration stage: pictures are chosen by what the teacher makes of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from datk.artifact.manifest import Manifest
from datk.config.load import recipe_from_dict
from datk.config.schema import PhotosSection, QuantizeSection
from datk.config.train_sections import PseudoLabelSection
from datk.errors import DataError
from datk.models.depth_anything import DepthAnything
from datk.models.weights import save_checkpoint
from datk.pipeline.route import stages_of
from datk.pipeline.stage import StageRun
from datk.pipeline.steps import calibration

LABELS = PseudoLabelSection(input_size=(28, 42))


class Notes:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def stage(self, name: str, title: str, state: str) -> None: ...

    def progress(self, done: int, total: int, what: str = "", stage: str = "") -> None: ...

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def stage(tmp_path: Path) -> StageRun:
    torch.manual_seed(0)
    (tmp_path / "10-teacher").mkdir()
    net = DepthAnything("tiny").eval()
    with torch.no_grad():
        net.depth_head.scratch.output_conv2[2].bias.fill_(5.0)  # above the final ReLU: the map has relief
    save_checkpoint(net, tmp_path / "10-teacher" / "teacher.safetensors", metadata={"licence": "Apache-2.0"})
    (tmp_path / "photos").mkdir()
    for number in range(5):
        noise = np.random.default_rng(number).integers(0, 256, (40, 60, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), cv2.GaussianBlur(noise, (0, 0), 3))
    out = tmp_path / "out"
    out.mkdir()
    needs = {"10-teacher": (tmp_path / "10-teacher", Manifest.model_construct())}
    return StageRun(out=out, needs=needs, reporter=Notes(), seed=0)


def run(stage: StageRun, count: int) -> list[calibration.CalibrationPhoto]:
    section = QuantizeSection(images=str(stage.out.parent / "photos"), count=count)
    calibration.run("10-teacher/teacher.safetensors", section, LABELS, PhotosSection(), stage)
    return calibration.read_set(stage.out)


def test_every_photograph_comes_with_the_teachers_label(stage: StageRun) -> None:
    found = run(stage, 4)
    assert len(found) == 4
    labels = calibration.read_labels(stage.out, found)
    assert all(p.image.is_file() for p in found) and [label.shape for label in labels] == [(28, 42)] * 4


def test_a_photograph_the_teacher_makes_nothing_of_is_left_out_named_and_replaced(
    stage: StageRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(stage, 4)[0].name
    monkeypatch.setattr("datk.train.labelling.read.left_out", lambda folder: {0: "constant"})
    found = run(stage, 4)
    assert len(found) == 4 and first not in [p.name for p in found]
    assert stage.reporter.lines == [f"calibration: {first} left out, constant"]


def test_a_teacher_that_puts_out_constants_is_an_error(stage: StageRun) -> None:
    path = stage.folder("10-teacher") / "teacher.safetensors"
    net = DepthAnything("tiny").eval()
    with torch.no_grad():
        net.depth_head.scratch.output_conv2[2].weight.zero_()
    save_checkpoint(net, path, metadata={"licence": "Apache-2.0"})
    with pytest.raises(DataError, match="none of 5 calibration photographs has a usable pseudo-label"):
        run(stage, 4)


def test_a_photograph_held_out_for_the_gates_cannot_calibrate(stage: StageRun) -> None:
    folder = str(stage.out.parent / "photos")
    section = QuantizeSection(images=folder, count=4)
    with pytest.raises(DataError, match="also used to calibrate"):
        calibration.run("10-teacher/teacher.safetensors", section, LABELS, PhotosSection(validation=folder), stage)


def test_without_a_teacher_the_checkpoint_itself_labels(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_checkpoint(DepthAnything("tiny").eval(), path, metadata={"licence": "Apache-2.0"})
    value = {"name": "r", "checkpoints": {"student": str(path)}, "targets": [{"name": "onnx", "precisions": ["int8"]}]}
    stages = {s.name: s for s in stages_of(recipe_from_dict(value, where="test"))}
    assert stages["35-calibration"].needs == ("30-student",)
    assert stages["40-quantize-onnx"].needs == ("30-student", "35-calibration")


def test_a_route_without_int8_labels_no_calibration_set(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_checkpoint(DepthAnything("tiny").eval(), path, metadata={"licence": "Apache-2.0"})
    value = {"name": "r", "checkpoints": {"student": str(path)}, "targets": [{"name": "onnx", "precisions": ["fp32"]}]}
    assert "35-calibration" not in {s.name for s in stages_of(recipe_from_dict(value, where="test"))}
