"""A calibration set: chosen, labelled, hashed, apart from benchmarks; taken by an export without labelling again."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from datk.artifact.files import sha256_file
from datk.artifact.manifest import Manifest
from datk.config.load import recipe_from_dict
from datk.config.schema import PhotosSection
from datk.data.calibration_set import check_files, is_calibration_set, read_calibration_set
from datk.errors import DataError, UsageError
from datk.models.depth_anything import DepthAnything
from datk.models.weights import save_checkpoint
from datk.pipeline import calibration_set as building
from datk.pipeline.calibration_set import BuildRequest, build, plan_build
from datk.pipeline.route import stages_of
from datk.pipeline.stage import StageRun
from datk.pipeline.steps import calibration
from datk.train.labelling.keep_out import NOTHING, keep_out_of

SIZE = (28, 42)
PHOTOS = 24


class Notes:
    """A reporter that keeps what it is told, and can interrupt."""

    def __init__(self, stop_at: tuple[str, int] = ("", 0)) -> None:
        self.lines: list[str] = []
        self.labelled = 0
        self._stop_at = stop_at

    def stage(self, name: str, title: str, state: str) -> None: ...

    def progress(self, done: int, total: int, what: str = "", stage: str = "") -> None:
        self.labelled += what == "label candidates"
        if (what, done) == self._stop_at:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.lines.append(text)


def paint(path: Path, number: int) -> None:
    """A photograph unlike the others: blotches over a gradient, dark ones and bright ones."""
    rng = np.random.default_rng(number)
    blotches = cv2.GaussianBlur(rng.normal(0, 1, (40, 60, 3)).astype(np.float32), (0, 0), 4) * 200
    picture = blotches + np.linspace(0, 60, 60)[None, :, None] + (60 if number % 4 else 150)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.clip(picture, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = DepthAnything("tiny").eval()
    with torch.no_grad():
        net.depth_head.scratch.output_conv2[2].bias.fill_(5.0)  # above the final ReLU: the map has relief
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_checkpoint(net, path, metadata={"licence": "Apache-2.0"})
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(PHOTOS):
        paint(tmp_path / "photos" / f"{number:02d}.png", number)
    return tmp_path / "photos"


@pytest.fixture
def request_(teacher: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> BuildRequest:
    monkeypatch.setattr(building, "_kept_out", lambda request: NOTHING)
    monkeypatch.setattr(building, "SHARD", 8)
    return BuildRequest(
        images=str(photos), out=photos.parent / "set", count=12, teacher=str(teacher), input_size=SIZE, kinds=4
    )


def with_(request: BuildRequest, **changes: Any) -> BuildRequest:
    from dataclasses import replace

    return replace(request, **changes)


def left_behind(out: Path) -> list[str]:
    return sorted(p.name for p in out.parent.iterdir() if p.name not in ("photos", "bench"))


def test_the_folder_holds_what_its_index_says(request_: BuildRequest) -> None:
    found, new = build(request_, reporter=Notes())
    out = request_.out
    assert new and len(found.photos) == found.asked == 12 and found.input_size == SIZE
    assert is_calibration_set(out) and read_calibration_set(out) == found
    listed = {"index.json", *(p.file for p in found.photos), *(p.label for p in found.photos)}
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == listed
    for entry in found.photos:
        assert entry.sha256 == sha256_file(Path(request_.images) / entry.name) == sha256_file(out / entry.file)
        label = cv2.imread(str(out / entry.label), cv2.IMREAD_UNCHANGED)
        assert label.shape == SIZE and label.dtype == np.uint16 and label.max() == 65535
    assert found.teacher["licence"] == "Apache-2.0" and found.batch == 1
    assert left_behind(out) == ["set"]


def test_every_kind_is_in_the_set_as_evenly_as_it_can_be(request_: BuildRequest) -> None:
    found, _ = build(request_, reporter=Notes())
    assert sum(k.candidates for k in found.kinds) == PHOTOS and sum(k.taken for k in found.kinds) == 12
    free = [k.taken for k in found.kinds if k.taken < k.candidates]
    assert len(found.kinds) == 4 and max(k.taken for k in found.kinds) - min(free) <= 1
    assert [sum(p.kind == n for p in found.photos) for n in range(4)] == [k.taken for k in found.kinds]


def test_a_photograph_of_a_benchmark_is_not_taken_however_it_was_saved(
    request_: BuildRequest, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = photos.parent / "bench"
    for number, change in ((0, lambda p: p), (1, lambda p: p[:, ::-1]), (2, lambda p: cv2.resize(p, (90, 60)))):
        bench.mkdir(exist_ok=True)
        cv2.imwrite(str(bench / f"b{number}.jpg"), change(cv2.imread(str(photos / f"{number:02d}.png"))))
    kept_out = keep_out_of({"bench": sorted(bench.iterdir())}, roots={"bench": bench})
    monkeypatch.setattr(building, "_kept_out", lambda request: kept_out)
    found, _ = build(with_(request_, count=24, candidates=24), reporter=Notes())
    assert not {"00.png", "01.png", "02.png"} & {p.name for p in found.photos}
    assert {line["name"]: line["reason"] for line in found.left_out} == {
        f"{n:02d}.png": f"shows bench/b{n}.jpg" for n in range(3)
    }
    assert found.keep_out["sets"] == {"bench": 3}


def test_benchmarks_and_the_photographs_that_judge_are_kept_out_by_default() -> None:
    found = building._kept_out(BuildRequest())
    assert found.sets["mini"] > 0 and found.sets["real4"] == 4 and found.sets["datk's validation photographs"] == 72
    assert len(found.names) == len(found.hashes) == len(set(found.names)) == sum(found.sets.values())
    assert any("kitti_garg" in note and "--keep-out" in note for note in found.notes)


def test_flat_twin_and_damaged_photographs_are_left_out_by_name(request_: BuildRequest, photos: Path) -> None:
    cv2.imwrite(str(photos / "flat.png"), np.full((40, 60, 3), 90, np.uint8))
    cv2.imwrite(str(photos / "twin.jpg"), cv2.imread(str(photos / "05.png")))
    (photos / "cut.jpg").write_bytes((photos / "twin.jpg").read_bytes()[:200])
    nan = np.full((40, 60, 3), np.nan, np.float32)
    cv2.imwrite(str(photos / "nan.tiff"), nan)
    found, _ = build(with_(request_, count=24), reporter=Notes())
    reasons = {line["name"]: line["reason"] for line in found.left_out}
    assert set(reasons) == {"flat.png", "twin.jpg", "cut.jpg", "nan.tiff"}
    assert reasons["twin.jpg"] == "nearly the same as 05.png"
    assert len(found.photos) == PHOTOS


def test_too_few_photographs_are_refused_with_reasons_and_nothing_is_left_as_a_set(
    request_: BuildRequest, photos: Path
) -> None:
    for path in sorted(photos.iterdir())[5:]:
        path.unlink()
    cv2.imwrite(str(photos / "flat.png"), np.full((40, 60, 3), 90, np.uint8))
    with pytest.raises(DataError, match=r"5 of 6 photographs are usable, at least 8 .*; left out: flat\.png") as caught:
        build(request_, reporter=Notes())
    assert caught.value.hint and not request_.out.exists()
    with pytest.raises(UsageError, match="--count 3: at least 8"):
        build(with_(request_, count=3), reporter=Notes())


def test_fewer_than_asked_for_are_taken_and_told(request_: BuildRequest) -> None:
    notes = Notes()
    found, _ = build(with_(request_, count=40), reporter=notes)
    assert len(found.photos) == PHOTOS and found.asked == 40
    assert "24 of 40 photographs asked for: no more are usable" in notes.lines


def test_the_same_request_finds_its_set_and_another_does_not_overwrite_it(request_: BuildRequest) -> None:
    first, _ = build(request_, reporter=Notes())
    again, new = build(request_, reporter=Notes())
    assert again == first and not new
    with pytest.raises(UsageError, match="a calibration set of another request lies there"):
        build(with_(request_, seed=1), reporter=Notes())
    (request_.out / first.photos[3].file).write_bytes(b"other")
    with pytest.raises(DataError, match=r"photos/0003\.png has changed"):
        build(request_, reporter=Notes())


def test_something_else_at_out_is_never_touched(request_: BuildRequest) -> None:
    request_.out.mkdir()
    (request_.out / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="something else lies there"):
        build(request_, reporter=Notes())
    assert left_behind(request_.out) == ["set"] and (request_.out / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "moment", [("label candidates", 16), ("look at depth and appearance", 9), ("write the set", 5)]
)
def test_an_interrupted_build_goes_on_and_equals_an_uninterrupted_one(
    request_: BuildRequest, moment: tuple[str, int]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(request_, reporter=Notes(stop_at=moment))
    assert not request_.out.exists()
    notes = Notes()
    build(request_, reporter=notes)
    assert any("going on with" in line for line in notes.lines)
    assert notes.labelled < PHOTOS // 8, "finished shards are not labelled again"
    build(with_(request_, out=request_.out.with_name("whole")), reporter=Notes())
    assert sha256_file(request_.out) == sha256_file(request_.out.with_name("whole"))
    assert left_behind(request_.out) == ["set", "whole"]


def test_a_full_disk_leaves_no_set_and_the_same_line_goes_on(
    request_: BuildRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = []

    def full(source: Path, target: Path) -> None:
        if len(copied) == 4:
            target.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        copied.append(target.write_bytes(source.read_bytes()))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space left"):
            build(request_, reporter=Notes())
    assert not request_.out.exists()
    assert not list(request_.out.parent.rglob("*.part.png")), "no half photograph"
    found, _ = build(request_, reporter=Notes())
    check_files(request_.out, found)


def test_what_another_request_left_unfinished_is_thrown_away_and_told(request_: BuildRequest) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(request_, reporter=Notes(stop_at=("label candidates", 16)))
    notes = Notes()
    build(with_(request_, count=16), reporter=notes)
    assert any("left by another request, thrown away" in line for line in notes.lines)


def test_a_dry_run_writes_nothing(request_: BuildRequest) -> None:
    plan = plan_build(request_)
    assert plan.as_json()["candidates"] == PHOTOS and plan.state == "new"
    assert left_behind(request_.out) == []


def test_an_export_takes_the_set_without_labelling_and_records_it(
    request_: BuildRequest, teacher: Path, tmp_path: Path
) -> None:
    found, _ = build(request_, reporter=Notes())
    value = {
        "name": "r",
        "checkpoints": {"student": str(teacher)},
        "quantize": {"images": str(request_.out)},
        "targets": [{"name": "onnx", "precisions": ["int8"], "input_size": list(SIZE)}],
    }
    stages = {s.name: s for s in stages_of(recipe_from_dict(value, where="test"))}
    stage = stages["35-calibration"]
    assert stage.needs == () and "take the calibration set" in stage.title
    assert stage.files == (
        ("calibration-set", str(request_.out / "index.json"), sha256_file(request_.out / "index.json")),
    )
    out = tmp_path / "out"
    out.mkdir()
    outcome = stage.run(StageRun(out=out, needs={}, reporter=Notes(), seed=0))
    assert outcome.datasets[0].split_sha256 == found.sha256 and outcome.datasets[0].n == 12
    assert outcome.facts["calibration_set"]["sha256"] == found.sha256
    taken = calibration.read_set(out)
    labels = calibration.read_labels(out, taken[:3])
    assert [p.name for p in taken] == [p.name for p in found.photos]
    assert all(label.shape == SIZE and label.min() == 0 and label.max() == 1 for label in labels)
    assert not (out / calibration.LABELS).exists()


def test_a_set_whose_file_changed_does_not_calibrate(request_: BuildRequest, tmp_path: Path) -> None:
    found, _ = build(request_, reporter=Notes())
    (request_.out / found.photos[2].label).unlink()
    with pytest.raises(DataError, match=r"labels/0002\.png is missing"):
        calibration.take(request_.out, PhotosSection(), _stage(tmp_path))
    index = request_.out / "index.json"
    value = json.loads(index.read_text())
    value["photos"] = value["photos"][1:]
    index.write_text(json.dumps(value))
    with pytest.raises(DataError, match="its list of files is not the one it was made with"):
        calibration.take(request_.out, PhotosSection(), _stage(tmp_path))


def test_a_set_that_shows_a_photograph_to_judge_on_does_not_calibrate(request_: BuildRequest, tmp_path: Path) -> None:
    found, _ = build(request_, reporter=Notes())
    judged = tmp_path / "judged"
    for number in range(100, 104):
        paint(judged / f"{number}.png", number)
    picture = cv2.imread(str(request_.out / found.photos[0].file))
    cv2.imwrite(str(judged / "again.jpg"), cv2.resize(picture, (120, 80))[:, ::-1])
    with pytest.raises(DataError, match=rf"1 of 5 .* look like .*again\.jpg \(as {found.photos[0].name}\)"):
        calibration.take(request_.out, PhotosSection(validation=str(judged)), _stage(tmp_path))


def _stage(tmp_path: Path) -> StageRun:
    out = tmp_path / "stage"
    out.mkdir(exist_ok=True)
    return StageRun(out=out, needs={"30-student": (tmp_path, Manifest.model_construct())}, reporter=Notes(), seed=0)
