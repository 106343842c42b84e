"""What a user does wrong ends in one message, the right exit code, no traceback, nothing half-written."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest


def refused(ended: Any, code: int, *words: str) -> None:
    assert ended.code == code, ended.err
    text = " ".join(ended.err.split())
    assert "error:" in text
    assert "Traceback" not in text
    for word in words:
        assert word in text


def test_da2k_absent_names_the_fetch_command_and_the_built_in_bench(datk: Any, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"")
    ended = datk("validate", "m.safetensors", "--bench", "da2k")
    refused(ended, 4, "datk data fetch da2k", "--bench mini", "data/da2k")


def test_validate_without_a_run_says_how_to_make_one(datk: Any) -> None:
    refused(datk("validate", "--bench", "da2k"), 2, "no run", "datk distill --size small")


def test_export_without_checkpoint_or_run_says_how_to_get_one(datk: Any) -> None:
    refused(datk("export", "--target", "jetson"), 2, "no run", "--checkpoint")


def test_unknown_target_names_the_nearest(datk: Any) -> None:
    refused(datk("export", "--target", "tflight", "--checkpoint", "x.pth"), 2, "tflight", "tflite")


def test_precision_a_target_lacks_names_those_it_has(datk: Any) -> None:
    refused(datk("export", "--target", "onnx", "--precision", "lut4", "--checkpoint", "x.pth"), 2, "lut4", "int8")


def test_size_that_is_no_multiple_of_14_names_the_two_nearest(datk: Any) -> None:
    refused(datk("export", "--target", "onnx", "--input-size", "500"), 2, "490", "504")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_files_that_are_no_checkpoint_are_refused_and_leave_no_artifact(
    datk: Any, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "depth_anything_v2_vits.pth").write_bytes(content)
    ended = datk("export", "--target", "onnx", "--checkpoint", "depth_anything_v2_vits.pth")
    refused(ended, 2, "depth_anything_v2_vits.pth")
    assert [p.name for p in tmp_path.iterdir()] == ["depth_anything_v2_vits.pth"]


def test_weights_that_do_not_say_what_they_are_are_never_guessed(datk: Any, tmp_path: Path) -> None:
    import torch

    from datk.models.depth_anything import DepthAnything

    torch.save(DepthAnything("tiny").state_dict(), tmp_path / "renamed.pth")
    refused(datk("export", "--target", "onnx", "--checkpoint", "renamed.pth"), 2, "--kind relative", "--max-depth")
    assert [p.name for p in tmp_path.iterdir()] == ["renamed.pth"]


def test_missing_checkpoint_is_refused_before_anything_is_written(datk: Any, tmp_path: Path) -> None:
    refused(datk("export", "--target", "onnx", "--checkpoint", "gone.pth"), 2, "gone.pth", "no such file")
    assert not list(tmp_path.iterdir())


def test_missing_image_folder_is_refused_before_anything_is_written(datk: Any, tmp_path: Path) -> None:
    refused(datk("distill", "--size", "tiny", "--images", "gone", "--budget", "1m"), 2, "gone")
    assert not list(tmp_path.iterdir())


def test_student_that_does_not_fit_is_exit_4_with_the_arithmetic(datk: Any, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    ended = datk("distill", "--size", "giant", "--images", "photos", "--plan")
    refused(ended, 4, "does not fit", "GiB", "optimiser")


def test_missing_extra_is_exit_4_with_the_pip_line(datk: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from datk.targets.base import Target

    monkeypatch.setattr(Target, "missing", lambda self: ["coremltools"] if self.name == "coreml" else [])
    (tmp_path / "x.pth").write_bytes(b"x")
    ended = datk("export", "--target", "coreml", "--checkpoint", "x.pth")
    refused(ended, 4, "coremltools", 'pip install "datk[coreml]"')


def test_recipe_mistakes_are_listed_all_at_once(datk: Any, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: r\nsede: 1\ncheckpoints: {student: a.pth}\ntargets: [{nmae: onnx}]\n")
    refused(datk("run", "r.yaml"), 2, "sede: unknown key; did you mean 'seed'?", "targets[0].nmae", "targets[0].name")


def test_unknown_stage_names_the_known_ones(datk: Any) -> None:
    refused(datk("run", "quickstart", "--until", "teachr", "--dry-run"), 2, "teachr", "teacher")


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT"])
def test_a_full_disk_is_exit_4_and_says_how_to_go_on(datk: Any, monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(getattr(errno, number), "No space left on device", "runs/r/.30-student.part/student.safetensors")

    monkeypatch.setattr("datk.pipeline.run.plan", full)
    ended = datk("run", "quickstart", "--dry-run")
    refused(ended, 4, "the disk is full writing runs/r/.30-student.part", "run the same command again")


def test_any_other_system_error_is_a_bug_with_its_traceback(datk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("datk.pipeline.run.plan", broken)
    ended = datk("run", "quickstart", "--dry-run")
    assert ended.code == 1 and "Traceback" in ended.err and "bug in datk" in ended.err


def test_missing_model_is_named(datk: Any) -> None:
    refused(datk("predict", "gone.jpg", "--model", "nothing.onnx"), 2, "nothing.onnx")


def test_two_photographs_of_one_name_are_refused() -> None:
    from datk.errors import DataError
    from datk.pipeline.predict import predict_photos

    nobody: Any = None
    with pytest.raises(DataError, match="both be written"):
        predict_photos(nobody, [Path("a/x.jpg"), Path("b/x.png")], Path("out"), progress=lambda d, t: None, note=print)


def test_dry_run_lists_the_route_and_writes_nothing(datk: Any, tmp_path: Path) -> None:
    ended = datk("run", "quickstart", "--dry-run", "--json")
    assert ended.code == 0
    stages = [s["stage"] for s in json.loads(ended.out)["stages"]]
    assert stages[:4] == ["05-synthetic", "10-teacher", "20-pseudo-labels", "30-student"]
    for target in ("onnx", "jetson", "coreml", "tflite"):
        assert any(s.startswith(f"50-export-{target}") for s in stages)
    exports = {s.removeprefix("50-export-") for s in stages if s.startswith("50-")}
    assert exports | {"student"} == {s.removeprefix("60-validate-") for s in stages if s.startswith("60-")}
    assert not list(tmp_path.iterdir())


def test_targets_and_recipes_are_listed_for_machines(datk: Any) -> None:
    targets = {t["name"] for t in json.loads(datk("targets", "list", "--json").out)}
    assert {"onnx", "jetson", "coreml", "tflite"} <= targets
    recipes = {r["name"] for r in json.loads(datk("recipes", "list", "--json").out)}
    assert {"quickstart", "smoke"} <= recipes
