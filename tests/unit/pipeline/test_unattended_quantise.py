"""Nobody watches: whatever stops the quantise stage, it leaves no half stage, names the file, and goes on."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from datk.artifact.files import atomic_path
from datk.config.load import recipe_from_dict
from datk.errors import DataError
from datk.models.depth_anything import DepthAnything
from datk.models.weights import save_checkpoint
from datk.pipeline.execute import Selection, execute
from datk.pipeline.route import stages_of
from datk.pipeline.stage import Stage

SIZE = (28, 28)
QUANTISED = "40-quantize-onnx"


class Bar:
    """A reporter that keeps notes and may raise at a stage's progress."""

    def __init__(self, stop_in: str = "") -> None:
        self.lines: list[str] = []
        self.began: list[str] = []
        self._stop_in = stop_in

    def stage(self, name: str, title: str, state: str) -> None:
        if state == "running":
            self.began.append(name)

    def progress(self, done: int, total: int, what: str = "", stage: str = "") -> None:
        if self._stop_in and self.began[-1] == self._stop_in:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.lines.append(text)


def paint(path: Path, number: int) -> None:
    noise = np.random.default_rng(number).normal(120, 60, (40, 40, 3)).astype(np.float32)
    cv2.imwrite(str(path), np.clip(cv2.GaussianBlur(noise, (0, 0), 3) * 1.5, 0, 255).astype(np.uint8))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(9):
        paint(folder / f"{number}.png", number)
    return folder


@pytest.fixture
def route(tmp_path: Path, photos: Path) -> Callable[[], list[Stage]]:
    """Load, label, quantise: without the stages that measure."""
    torch.manual_seed(0)
    net = DepthAnything("tiny").eval()
    with torch.no_grad():
        net.depth_head.scratch.output_conv2[2].bias.fill_(5.0)
    save_checkpoint(net, tmp_path / "net.safetensors", metadata={"licence": "Apache-2.0"})
    value = {
        "name": "r",
        "checkpoints": {"student": str(tmp_path / "net.safetensors")},
        "quantize": {"images": str(photos)},
        "targets": [{"name": "onnx", "precisions": ["int8"], "input_size": list(SIZE)}],
    }
    names = ("30-student", "35-calibration", QUANTISED)
    return lambda: [s for s in stages_of(recipe_from_dict(value, where="test")) if s.name in names]


@pytest.fixture
def no_nncf(monkeypatch: pytest.MonkeyPatch) -> None:
    """quantize_module checks what it checks and calls back, and hands on the float program."""

    def quantise(module: torch.nn.Module, images: list, scheme: object, **how: Any) -> torch.nn.Module:
        from datk.quantize.calibration import check_calibration

        check_calibration(images, how["input_size"], min_images=how["min_images"], names=how["names"])
        how["progress"](1, len(images))
        return module

    def save(program: torch.nn.Module, example: torch.Tensor, path: Path) -> None:
        with atomic_path(path) as part:
            write(part)

    monkeypatch.setattr("datk.quantize.ptq.quantize_module", quantise)
    monkeypatch.setattr("datk.quantize.program.save_program", save)


def write(part: Path) -> None:
    """What a disk does with a program."""
    part.write_bytes(b"program")


def go(stages: Sequence[Stage], run_dir: Path, bar: Bar) -> None:
    execute(stages, run_dir, Selection(), seed=0, recipe_text="name: r\n", reporter=bar)


@pytest.mark.parametrize("stage", ["35-calibration", QUANTISED])
def test_ctrl_c_leaves_no_half_stage_and_the_same_line_goes_on(
    route: Callable, tmp_path: Path, no_nncf: None, stage: str
) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        go(route(), run_dir, Bar(stop_in=stage))
    assert not (run_dir / stage).exists()
    again = Bar()
    go(route(), run_dir, again)
    assert again.began[0] == stage, "what was complete is not made again"
    assert (run_dir / QUANTISED / "program.pt2").is_file() and not list(run_dir.glob(".*.part"))


def test_a_full_disk_leaves_no_half_stage_and_the_same_line_goes_on(
    route: Callable, tmp_path: Path, no_nncf: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(part: Path) -> None:
        part.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(part))

    run_dir = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setitem(globals(), "write", full)
        go(route(), run_dir, Bar())
    assert not (run_dir / QUANTISED).exists() and not list(run_dir.rglob("*.pt2"))
    go(route(), run_dir, Bar())
    assert (run_dir / QUANTISED / "program.pt2").is_file()


def test_too_few_photographs_end_the_run_with_both_numbers(
    route: Callable, photos: Path, tmp_path: Path, no_nncf: None
) -> None:
    for path in sorted(photos.iterdir())[7:]:
        path.unlink()
    with pytest.raises(DataError, match="7 of at least 8 images") as caught:
        go(route(), tmp_path / "run", Bar())
    assert caught.value.hint and not (tmp_path / "run" / QUANTISED).exists()


def test_a_photograph_that_is_flat_only_at_the_bucket_is_named(
    route: Callable, photos: Path, tmp_path: Path, no_nncf: None
) -> None:
    """A wall with one odd pixel: not flat as a file, one colour once it is resized."""
    wall = np.full((420, 420, 3), 90, np.uint8)
    wall[1, 1] = 91
    cv2.imwrite(str(photos / "wall.png"), wall)
    with pytest.raises(DataError, match=r"\(wall\.png\) is one flat colour"):
        go(route(), tmp_path / "run", Bar())


def test_a_layer_with_an_infinite_range_ends_the_run_by_layer_and_file(
    route: Callable, photos: Path, tmp_path: Path
) -> None:
    """Through the stage, with the real quantiser: the route's sound net labels, the student overflows in one block."""
    torch.manual_seed(0)
    net = DepthAnything("tiny").eval()
    with torch.no_grad():
        net.pretrained.blocks[1].mlp.fc1.weight.fill_(3e38)
    save_checkpoint(net, tmp_path / "broken.safetensors", metadata={"licence": "Apache-2.0"})
    value = {
        "name": "r",
        "checkpoints": {"teacher": str(tmp_path / "net.safetensors"), "student": str(tmp_path / "broken.safetensors")},
        "quantize": {"images": str(photos)},
        "targets": [{"name": "onnx", "precisions": ["int8"], "input_size": list(SIZE)}],
    }
    names = ("10-teacher", "30-student", "35-calibration", QUANTISED)
    stages = [s for s in stages_of(recipe_from_dict(value, where="test")) if s.name in names]
    named = r"calibration image \d+ \(\d\.png\): .*blocks\.1\..* puts out NaN or infinity"
    with pytest.raises(DataError, match=named) as caught:
        go(stages, tmp_path / "run", Bar())
    assert caught.value.hint and not (tmp_path / "run" / QUANTISED).exists()
    assert (tmp_path / "run" / "35-calibration" / "manifest.json").is_file()


def test_constant_and_nan_photographs_are_left_out_by_name(
    route: Callable, photos: Path, tmp_path: Path, no_nncf: None
) -> None:
    cv2.imwrite(str(photos / "flat.png"), np.full((40, 40, 3), 90, np.uint8))
    cv2.imwrite(str(photos / "nan.tiff"), np.full((40, 40, 3), np.nan, np.float32))
    bar = Bar()
    go(route(), tmp_path / "run", bar)
    told = "\n".join(bar.lines)
    assert "calibration: flat.png left out" in told and "calibration: nan.tiff left out" in told
