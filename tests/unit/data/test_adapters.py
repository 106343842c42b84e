"""Every data set is read as what its authors wrote: metres along the axis, sky at infinity, unknown as unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datk.data.adapters import available
from datk.data.dataset import open_dataset
from datk.data.depth_files import read_pfm
from datk.errors import DataError
from tests.unit.data.layouts import WRITERS, save_picture, save_png16


@pytest.mark.parametrize("name", list(WRITERS))
def test_depth_is_read_in_metres_with_sky_and_unknown_where_they_are(name: str, tmp_path: Path) -> None:
    written = WRITERS[name]
    truth = written.write(tmp_path)
    dataset = open_dataset(name, tmp_path)
    assert [dataset.key(i) for i in range(len(dataset))] == sorted(truth)
    for i in range(len(dataset)):
        sample = dataset.read(i)
        z = truth[dataset.key(i)]
        found = getattr(sample, written.quantity)
        assert found.dtype == np.float32
        assert sample.image.shape == (*z.shape, 3)
        np.testing.assert_array_equal(sample.sky, np.isposinf(z))
        np.testing.assert_array_equal(sample.valid, z > 0)
        solid = np.isfinite(z)
        found = 1 / found if written.quantity.startswith("disparity") else found
        np.testing.assert_allclose(found[solid], z[solid], rtol=written.tolerance)
        assert sample.licence


@pytest.mark.parametrize("name", list(WRITERS))
def test_the_target_is_inverse_depth_of_the_scene_with_sky_at_zero(name: str, tmp_path: Path) -> None:
    truth = WRITERS[name].write(tmp_path)
    dataset = open_dataset(name, tmp_path)
    target, valid = dataset.read(0).target()
    z = truth[dataset.key(0)]
    inverse = np.where(np.isposinf(z), 0.0, 1 / np.where(z > 0, z, 1))
    low, high = inverse[valid].min(), inverse[valid].max()
    np.testing.assert_allclose(target[valid], ((inverse - low) / (high - low))[valid], atol=2e-5)
    assert not target[~valid].any()
    assert not target[np.isposinf(z)].any()


def test_splits_are_those_of_the_data_sets(tmp_path: Path) -> None:
    for name, split, count in (
        ("diode", "val/indoors", 1),
        ("diode", "val", 2),
        ("nyuv2", "test", 2),
        ("kitti", "val", 2),
        ("hrwsi", "train", 1),
        ("irs", "Office", 1),
        ("tartanair", "Easy", 2),
        ("diml", "test/outdoor", 1),
    ):
        if not (tmp_path / name).exists():
            WRITERS[name].write(tmp_path / name)
        assert len(open_dataset(name, tmp_path / name, split)) == count, (name, split)


def test_kitti_counts_pictures_without_ground_truth_and_calls_none_missing(tmp_path: Path) -> None:
    WRITERS["kitti"].write(tmp_path)
    assert dict(open_dataset("kitti", tmp_path).left_out) == {"images without ground truth": 2}


def test_kitti_selection_and_unpacked_nyu_are_read_too(tmp_path: Path) -> None:
    stem = "2011_09_26_drive_0002_sync_{}_0000000005_image_02.png"
    base = tmp_path / "kitti" / "val_selection_cropped"
    save_picture(base / "image" / stem.format("image"))
    save_png16(base / "groundtruth_depth" / stem.format("groundtruth_depth"), np.full((24, 32), 512))
    sample = open_dataset("kitti", tmp_path / "kitti", "val_selection").read(0)
    assert sample.depth_m is not None and float(sample.depth_m.max()) == 2.0
    room = tmp_path / "nyu" / "official_splits" / "test" / "bathroom"
    save_picture(room / "rgb_00045.jpg")
    save_png16(room / "sync_depth_00045.png", np.full((24, 32), 1500))
    sample = open_dataset("nyuv2", tmp_path / "nyu", "test").read(0)
    assert sample.depth_m is not None and float(sample.depth_m.max()) == 1.5 and sample.scene == "bathroom"


def test_the_raw_nyu_scenes_are_read_by_the_list_that_in_domain_training_uses(tmp_path: Path) -> None:
    """Lines as in BTS' list: picture, depth, focal length; the folder holds more than the list."""
    sync = tmp_path / "sync" / "living_room_0042a"
    for number in (1, 45):
        save_picture(sync / f"rgb_{number:05d}.jpg")
        save_png16(sync / f"sync_depth_{number:05d}.png", np.full((24, 32), 1000 + number))
    listing = tmp_path / "nyudepthv2_train_files_with_gt.txt"
    room = "/living_room_0042a"
    listing.write_text(f"{room}/rgb_00045.jpg {room}/sync_depth_00045.png 518.8579\n")
    found = open_dataset("nyuv2", tmp_path / "sync", listing=listing)
    assert len(found) == 1 and len(open_dataset("nyuv2", tmp_path / "sync", "train")) == 2
    depth_m = found.read(0).depth_m
    assert depth_m is not None and float(depth_m.max()) == pytest.approx(1.045)
    with pytest.raises(DataError, match="lies further down, in sync"):
        open_dataset("nyuv2", tmp_path)


def test_eth3d_depth_of_the_undistorted_photograph_is_refused(tmp_path: Path) -> None:
    WRITERS["eth3d"].write(tmp_path)
    save_picture(tmp_path / "courtyard/images/dslr_images/DSC_0286.JPG", height=26, width=35)
    with pytest.raises(DataError, match="768 values, but the image has 26 x 35") as caught:
        open_dataset("eth3d", tmp_path).read(0)
    assert "another version of the image" in str(caught.value.hint)


def test_pfm_is_read_in_both_byte_orders_and_whatever_its_scale_says(tmp_path: Path) -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    for number, (order, scale) in enumerate((("<f4", "-1"), (">f4", "1.0"), ("<f4", "-2.5"))):
        path = tmp_path / f"{number}.pfm"
        path.write_bytes(f"Pf\n3 2\n{scale}\n".encode() + rows[::-1].astype(order).tobytes())
        np.testing.assert_allclose(read_pfm(path), rows, rtol=1e-6)


def test_every_adapter_has_a_writer_that_holds_it_to_its_format() -> None:
    assert set(available()) == set(WRITERS)
