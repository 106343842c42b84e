"""`datk data check` and `datk data list`: figures a person can hold against the data set, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datk.pipeline.data_check import check
from tests.unit.cli.conftest import datk as datk_line
from tests.unit.data.layouts import WRITERS, save_picture

datk = datk_line


def test_a_whole_data_set_is_counted_measured_and_drawn(datk: Any, tmp_path: Path) -> None:
    truth = WRITERS["tartanair"].write(tmp_path / "set")
    ended = datk("data", "check", "set", "--as", "tartanair", "--json", "--sheet", "sheet.jpg")
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    known = np.concatenate([z[np.isfinite(z)] for z in truth.values()])
    everything = np.stack(list(truth.values()))
    assert report["pairs"] == report["files_read"] == 2 and report["scenes"] == 2
    assert report["splits"] == {"Easy": 2}
    assert report["left_out"] == {"environment 'amusement': its sky dome has an inconsistent depth": 1}
    assert report["depth"]["min"] == pytest.approx(known.min()) and report["depth"]["max"] == pytest.approx(known.max())
    assert report["depth"]["p50"] == pytest.approx(np.median(known), rel=0.02)
    assert report["depth"]["sky_fraction"] == pytest.approx(np.isinf(everything).mean())
    assert report["depth"]["unknown_fraction"] == pytest.approx(np.isnan(everything).mean())
    assert report["sizes"] == {"24x32": 2} and "resized copies?" in " ".join(report["notes"])
    sheet = cv2.imread(str(tmp_path / "sheet.jpg"))
    assert sheet is not None and sheet.shape[:2] == (124, 2 * (2 * 160 + 4))


def test_the_table_says_the_same_in_words(datk: Any, tmp_path: Path) -> None:
    WRITERS["vkitti2"].write(tmp_path / "set")
    ended = datk("data", "check", "set", "--as", "vkitti2")
    assert ended.code == 0, ended.err
    for words in ("pairs", "sky", "655.3 m", "vkitti2_check.jpg", "CC BY-NC-SA 3.0"):
        assert words in ended.out
    assert "the paper or the protocol counts about 20,000" in ended.err
    assert (tmp_path / "vkitti2_check.jpg").is_file()


def test_missing_and_spoilt_files_are_all_named_and_end_with_code_2(datk: Any, tmp_path: Path) -> None:
    WRITERS["hypersim"].write(tmp_path / "set")
    base = tmp_path / "set/ai_001_002/images/scene_cam_00_geometry_hdf5"
    (base / "frame.0000.depth_meters.hdf5").unlink()
    (base / "frame.0002.depth_meters.hdf5").write_bytes(b"no hdf5")
    ended = datk("data", "check", "set", "--as", "hypersim", "--all", "--json")
    assert ended.code == 2
    report = json.loads(ended.out)
    assert len(report["missing"]) == 1 and "frame.0000.depth_meters.hdf5" in report["missing"][0]
    assert len(report["unreadable"]) == 1 and "not a readable HDF5 file" in report["unreadable"][0]
    assert report["pairs"] == 2
    assert "2 problems in set" in ended.err and "frame.0002" in ended.err


def test_a_folder_that_is_something_else_ends_with_code_2_and_what_was_expected(datk: Any, tmp_path: Path) -> None:
    WRITERS["sintel"].write(tmp_path / "set")
    ended = datk("data", "check", "set", "--as", "hypersim")
    assert ended.code == 2
    assert "not laid out as Hypersim; it holds training/" in ended.err
    assert "scene_cam_{camera}_geometry_hdf5" in ended.err and "https://" in ended.err
    assert not list(tmp_path.glob("*.jpg"))


def test_names_alone_can_be_checked_and_a_sample_is_spread_over_the_set(tmp_path: Path) -> None:
    WRITERS["kitti"].write(tmp_path)
    report = check(tmp_path, "kitti", sample=0)
    assert report.files_read == 0 and report.pairs == 2 and report.depth == {} and report.sheet is None
    report = check(tmp_path, "kitti", sample=1)
    assert report.files_read == 1 and "--all reads every file" in " ".join(report.notes)


def test_maps_without_any_known_depth_are_named(tmp_path: Path) -> None:
    WRITERS["blendedmvs"].write(tmp_path)
    path = sorted(tmp_path.rglob("*.pfm"))[0]
    cv2.imwrite(str(path), np.zeros((24, 32), np.float32))
    report = check(tmp_path, "blendedmvs", sheet=tmp_path / "s.jpg")
    assert report.without_depth == ["5a3ca9cb270f0e3f14d0eddb/blended_images/00000000.jpg"]
    assert report.depth["unit"] == "scene units" and not report.problems


@pytest.mark.parametrize("name", list(WRITERS))
def test_every_data_set_can_be_checked(name: str, tmp_path: Path) -> None:
    truth = WRITERS[name].write(tmp_path)
    report = check(tmp_path, name, sample=None, sheet=tmp_path / "sheet" / "s.jpg")
    assert not report.problems and report.pairs == len(truth)
    assert cv2.imread(str(tmp_path / "sheet" / "s.jpg")) is not None
    assert all(len(row) == 2 for row in report.rows())


def test_unlabelled_images_are_counted_measured_and_drawn_too(datk: Any, tmp_path: Path) -> None:
    for i in range(5):
        save_picture(tmp_path / "set" / "sa_000020" / f"sa_{i}.jpg", i, height=30 + i % 2)
    ended = datk("data", "check", "set", "--as", "sa1b", "--json")
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert report["images"] == report["files_read"] == 5 and report["sizes"] == {"30x32": 3, "31x32": 2}
    assert cv2.imread(str(tmp_path / "sa1b_check.jpg")) is not None
    (tmp_path / "set" / "sa_000020" / "sa_3.jpg").write_bytes(b"no jpeg")
    ended = datk("data", "check", "set", "--as", "folder", "--all")
    assert ended.code == 2 and "sa_3.jpg: not a readable picture" in ended.err and "images" in ended.out
    ended = datk("data", "check", "set", "--as", "folder", "--sample", "2")
    assert ended.code in (0, 2) and "read 2 of 5 images" in ended.err
    assert datk("data", "check", "set", "--as", "lsun").code == 2
    assert datk("data", "check", "set", "--as", "sa1b", "--split", "val").code == 2


def test_the_list_names_every_set_with_licence_and_place(datk: Any) -> None:
    ended = datk("data", "list", "--json")
    sets = {entry["name"]: entry for entry in json.loads(ended.out)}
    assert {"hypersim", "vkitti2", "kitti", "sa1b", "bdd100k", "synthetic"} <= set(sets)
    assert all(e["licence"] and e["home"] and e["format"] and e["layouts"] for e in sets.values())
    assert sum(e["images"] for e in sets.values() if e["role"] == "unlabelled") == 62_300_000
    assert "hypersim" in datk("data", "list").out
    one = datk("data", "list", "hypersim").out
    assert "optical centre" in one and "depth_meters.hdf5" in one and "along the ray" in one
    ended = datk("data", "list", "hypersin")
    assert ended.code == 2 and "did you mean 'hypersim'?" in ended.err
