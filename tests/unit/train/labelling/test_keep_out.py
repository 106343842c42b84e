"""Benchmarks with measured depth that lie here are kept out of the labels as those of point pairs are."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import h5py
import pytest

from datk.data.sources import open_images
from datk.pipeline import labelling
from datk.pipeline.labelling import LabelRequest, label
from tests.unit.data.layouts import WRITERS
from tests.unit.train.labelling.toys import SECTION, BrightTeacher, photograph, write_photos


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two benchmarks in their usual places: one of loose files, one in a container."""
    monkeypatch.chdir(tmp_path)
    for name in ("kitti", "nyuv2"):
        WRITERS[name].write(tmp_path / "data" / name)
    frame = next((tmp_path / "data/kitti").rglob("image_02/data/0000000002.png"))
    cv2.imwrite(str(frame), photograph(1)[..., ::-1])
    with h5py.File(tmp_path / "data/nyuv2/nyu_depth_v2_labeled.mat", "r+") as file:
        small = cv2.resize(photograph(2), file["images"].shape[-2:], interpolation=cv2.INTER_AREA)
        file["images"][2] = small.transpose(2, 1, 0)  # test image 3; MATLAB has columns first
    return tmp_path


def test_no_picture_of_a_measured_benchmark_at_hand_is_labelled(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_photos(here / "photos", 3)
    monkeypatch.setattr(labelling, "open_both", lambda *_: (BrightTeacher(), open_images(folder)))
    request = LabelRequest("teacher", str(folder), here / "labels", SECTION, workers=1)
    summary, _ = label(request, note=lambda words: None)
    assert (summary.labels, summary.kept_out) == (1, 2)
    index = json.loads((here / "labels/index.json").read_text())
    assert [(k["key"], k["benchmark"].split("/")[0]) for k in index["kept_out"]] == [
        ("p001.png", "kitti_garg"),
        ("p002.png", "nyu_raw_eigen"),
    ]
    sets, notes = index["kept_out_sets"], index["kept_out_notes"]
    assert (sets["kitti_garg"], sets["nyu_raw_eigen"], sets["real4"]) == (2, 2, 4) and "sintel" not in sets
    assert any("eth3d" in note and "--keep-out" in note for note in notes), "what is not here is named"
