"""A folder that is not laid out as it should be is told what is wrong with it, and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from datk.data.adapters.layout import Layout, match_layouts
from datk.data.dataset import open_dataset
from datk.errors import DataError
from tests.unit.data.layouts import WRITERS, save_npy, save_picture, save_png16


def refused(name: str, folder: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        dataset = open_dataset(name, folder)
        for i in range(len(dataset)):
            dataset.read(i)
    return caught.value


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert "gone: no such folder" in refused("hypersim", tmp_path / "gone").message


def test_an_empty_folder_is_told_the_layout_and_where_to_get_the_set(tmp_path: Path) -> None:
    error = refused("vkitti2", tmp_path)
    assert "it is empty; expected" in error.message
    assert "Scene{scene}/{variant}/frames/rgb/Camera_0/rgb_{frame}.jpg" in error.message
    assert "naverlabs" in str(error.hint)


@pytest.mark.parametrize("name", [n for n in WRITERS if n not in ("nyuv2", "synthetic")])
def test_one_folder_too_high_names_the_right_one(name: str, tmp_path: Path) -> None:
    WRITERS[name].write(tmp_path / "download" / "v1")
    error = refused(name, tmp_path)
    assert "lies further down, in download/v1" in error.message
    assert str(error.hint) == f"name that folder: {tmp_path / 'download' / 'v1'}"


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("hypersim", "ai_001_002/images"),
        ("vkitti2", "Scene01/clone"),
        ("tartanair", "abandonedfactory/Easy"),
        ("sintel", "training"),
        ("diode", "val/indoors"),
    ],
)
def test_one_folder_too_low_names_the_one_above(name: str, inside: str, tmp_path: Path) -> None:
    WRITERS[name].write(tmp_path)
    error = refused(name, tmp_path / inside)
    assert "this is a folder inside" in error.message
    assert str(error.hint) == f"name the one above: {tmp_path.resolve()}"


@pytest.mark.parametrize(
    ("name", "half"), [("vkitti2", "*/*/frames/depth"), ("hypersim", "*/images/*_hdf5"), ("sintel", "training/depth")]
)
def test_images_without_any_depth_say_which_archive_is_missing(name: str, half: str, tmp_path: Path) -> None:
    WRITERS[name].write(tmp_path)
    for folder in tmp_path.glob(half):
        shutil.rmtree(folder)
    error = refused(name, tmp_path)
    assert "images of" in error.message and "but nothing at" in error.message
    assert "unpack the other archives into the same folder" in str(error.hint)


def test_depth_without_any_image_says_so_too(tmp_path: Path) -> None:
    WRITERS["sintel"].write(tmp_path)
    shutil.rmtree(tmp_path / "training" / "final")
    error = refused("sintel", tmp_path)
    assert "2 depth maps of MPI Sintel" in error.message and "training/final/" in error.message
    assert "files ending in .png lie at training/clean/alley_1/frame_0001.png" in error.message


def test_images_and_depth_that_never_meet_show_both_names(tmp_path: Path) -> None:
    save_picture(tmp_path / "Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg")
    save_png16(tmp_path / "Scene02/clone/frames/depth/Camera_0/depth_00000.png", np.ones((24, 32)))
    error = refused("vkitti2", tmp_path)
    assert "1 images and 1 depth maps of Virtual KITTI 2, none complete" in error.message
    assert "Scene01" in error.message and "Scene02" in error.message


def test_archives_that_were_never_unpacked(tmp_path: Path) -> None:
    (tmp_path / "vkitti_2.0.3_rgb.tar").write_bytes(b"x")
    error = refused("vkitti2", tmp_path)
    assert "holds archives only, first vkitti_2.0.3_rgb.tar" in error.message and "unpack them" in str(error.hint)


def test_another_data_set_shows_what_lies_there(tmp_path: Path) -> None:
    WRITERS["sintel"].write(tmp_path)
    error = refused("hypersim", tmp_path)
    assert "not laid out as Hypersim; it holds training/" in error.message


def test_one_frame_twice_is_refused(tmp_path: Path) -> None:
    WRITERS["kitti"].write(tmp_path)
    shutil.copytree(tmp_path / "val", tmp_path / "train")
    error = refused("kitti", tmp_path)
    assert "are the same frame by name" in error.message


def test_every_missing_partner_is_named_with_the_place_it_should_lie_at(tmp_path: Path) -> None:
    WRITERS["diode"].write(tmp_path)
    stem = "val/indoors/scene_00019/scan_00183/00019_00183_indoors_000_010"
    (tmp_path / f"{stem}_depth_mask.npy").unlink()
    (tmp_path / f"{stem.replace('indoors', 'outdoor')}.png").unlink()
    error = refused("diode", tmp_path)
    assert f"{stem}.png has no mask: expected {stem}_depth_mask.npy" in error.message
    assert "outdoor_000_010_depth.npy has no image: expected val/outdoor/" in error.message


def test_a_field_may_hold_groups_of_its_own(tmp_path: Path) -> None:
    for name in ("rgb/left_001.png", "rgb/right_001.png", "depth/left_001.npy", "depth/right_001.npy"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    layout = Layout(
        image="rgb/{side}_{frame}.png", depth="depth/{side}_{frame}.npy", fields={"side": "(left)|(ri(gh)t)"}
    )
    matched = match_layouts(tmp_path, (layout,), title="x", home="y")
    assert [p.files for p in matched.pairs] == [
        ("rgb/left_001.png", "depth/left_001.npy"),
        ("rgb/right_001.png", "depth/right_001.npy"),
    ]
    assert [p.values for p in matched.pairs] == [("left", "001"), ("right", "001")]


# --- single files ------------------------------------------------------------------------------


def vkitti_depth(root: Path) -> Path:
    return root / "Scene01/clone/frames/depth/Camera_0/depth_00000.png"


def eight_bit(root: Path) -> None:
    Image.fromarray(np.ones((24, 32), np.uint8)).save(vkitti_depth(root))


def other_size(root: Path) -> None:
    save_png16(vkitti_depth(root), np.ones((12, 16)))


def cut_png(root: Path) -> None:
    data = vkitti_depth(root).read_bytes()
    vkitti_depth(root).write_bytes(data[: len(data) // 2])


def hypersim_depth(root: Path) -> Path:
    return root / "ai_001_002/images/scene_cam_00_geometry_hdf5/frame.0001.depth_meters.hdf5"


def other_dataset_name(root: Path) -> None:
    with h5py.File(hypersim_depth(root), "w") as file:
        file["depth"] = np.ones((24, 32), np.float32)


def colour_hdf5(root: Path) -> None:
    with h5py.File(hypersim_depth(root), "w") as file:
        file["dataset"] = np.ones((24, 32, 3), np.float32)


def cut_file(pattern: str) -> Callable[[Path], None]:
    def cut(root: Path) -> None:
        path = sorted(root.rglob(pattern))[0]
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])

    return cut


def emptied(pattern: str) -> Callable[[Path], None]:
    def empty(root: Path) -> None:
        sorted(root.rglob(pattern))[0].write_bytes(b"")

    return empty


def colour_pfm(root: Path) -> None:
    sorted(root.rglob("*.pfm"))[0].write_bytes(b"PF\n32 24\n-1\n" + bytes(24 * 32 * 12))


def pickled_npy(root: Path) -> None:
    np.save(sorted(root.rglob("*_depth.npy"))[0], np.array([{"a": 1}], dtype=object), allow_pickle=True)


def wrong_tag(root: Path) -> None:
    path = sorted(root.rglob("*.dpt"))[0]
    path.write_bytes(b"PIEG" + path.read_bytes()[4:])


def wrong_mask(root: Path) -> None:
    save_npy(sorted(root.rglob("*_mask.npy"))[0], np.ones((5, 5)))


def no_raw_depths(root: Path) -> None:
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "a") as file:
        del file["rawDepths"]


def wrong_splits(root: Path) -> None:
    (root / "splits.mat").write_bytes(b"no matlab file at all, but long enough to be looked at" * 10)


@pytest.mark.parametrize(
    ("name", "spoil", "says"),
    [
        ("vkitti2", eight_bit, "uint8 (24, 32), expected a 16-bit grey PNG"),
        ("vkitti2", other_size, "ground truth is (12, 16), the image is (24, 32)"),
        ("vkitti2", cut_png, "not a readable PNG"),
        ("vkitti2", cut_file("rgb_00000.jpg"), "cut short"),
        ("vkitti2", emptied("depth_00000.png"), "empty"),
        ("hypersim", other_dataset_name, "no dataset 'dataset', only depth"),
        ("hypersim", colour_hdf5, "expected numbers of shape (H, W)"),
        ("hypersim", cut_file("*.hdf5"), "not a readable HDF5 file"),
        ("irs", cut_file("d_*.exr"), "not a readable OpenEXR file"),
        ("blendedmvs", cut_file("*.pfm"), "cut short: "),
        ("blendedmvs", colour_pfm, "not a one-channel PFM"),
        ("tartanair", cut_file("*_depth.npy"), "not a readable .npy array"),
        ("tartanair", pickled_npy, "not a readable .npy array"),
        ("sintel", wrong_tag, "not a .dpt file"),
        ("sintel", cut_file("*.dpt"), "bytes of pixels, expected 3072"),
        ("diode", wrong_mask, "mask is (5, 5), depth is (24, 32)"),
        ("nyuv2", no_raw_depths, "no rawDepths in it"),
        ("nyuv2", cut_file("*.mat"), "not a readable MATLAB 7.3 file"),
        ("nyuv2", wrong_splits, "not the official splits.mat"),
    ],
)
def test_a_spoilt_file_is_named_with_what_is_wrong(
    name: str, spoil: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    WRITERS[name].write(tmp_path)
    spoil(tmp_path)
    assert says in refused(name, tmp_path).message
