"""Opening data sets: splits, lists, missing pairs, mixtures, and adapters that lie elsewhere."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from datk.data import adapters
from datk.data.dataset import MixedDataset, open_dataset
from datk.data.sources.presets import PRESETS
from datk.errors import DataError, EnvironmentLacks, UsageError
from datk.pipeline.data_check import check
from tests.unit.data.layouts import WRITERS, save_picture, save_png16, tartanair


def test_an_unknown_data_set_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no data set named 'vkitti'") as caught:
        open_dataset("vkitti", tmp_path)
    assert "did you mean 'vkitti2'?" in str(caught.value.hint)


def test_what_an_adapter_leaves_out_on_purpose_is_counted(tmp_path: Path) -> None:
    tartanair(tmp_path)
    dataset = open_dataset("tartanair", tmp_path)
    assert len(dataset) == 2
    assert dict(dataset.left_out) == {"environment 'amusement': its sky dome has an inconsistent depth": 1}


def test_a_missing_depth_map_is_named_with_its_place_and_only_left_out_when_asked(tmp_path: Path) -> None:
    WRITERS["hypersim"].write(tmp_path)
    base = "ai_001_002/images/scene_cam_00_geometry_hdf5/frame.0001.depth_meters.hdf5"
    (tmp_path / base).unlink()
    with pytest.raises(DataError, match="1 of 3 pairs are incomplete") as caught:
        open_dataset("hypersim", tmp_path)
    assert f"frame.0001.tonemap.jpg has no depth map: expected {base}" in caught.value.message
    dataset = open_dataset("hypersim", tmp_path, allow_missing=True)
    assert len(dataset) == 2 and dict(dataset.left_out) == {"incomplete pairs": 1}


def test_the_official_table_gives_hypersim_its_splits(tmp_path: Path) -> None:
    WRITERS["hypersim"].write(tmp_path)
    with pytest.raises(UsageError, match="no split 'val'") as caught:
        open_dataset("hypersim", tmp_path, "val")
    assert "metadata_images_split_scene_v1.csv" in str(caught.value.hint)
    rows = [f"ai_001_002,cam_00,{i},True,,{split}" for i, split in enumerate(("train", "val", "train"))]
    header = "scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,split_partition_name"
    (tmp_path / "metadata_images_split_scene_v1.csv").write_text("\n".join([header, *rows]) + "\n")
    assert [len(open_dataset("hypersim", tmp_path, split)) for split in ("train", "val", None)] == [2, 1, 3]
    assert open_dataset("hypersim", tmp_path, "val").read(0).split == "val"


def test_a_list_chooses_images_even_when_written_relative_to_another_folder(tmp_path: Path) -> None:
    WRITERS["vkitti2"].write(tmp_path / "set")
    wanted = "Scene20/15-deg-left/frames/rgb/Camera_0/rgb_00000.jpg"
    listing = tmp_path / "list.txt"
    for prefix in ("", "/data/vkitti_2.0.3/", "vkitti/"):
        listing.write_text(f"{prefix}{wanted} some/depth.png\n")
        dataset = open_dataset("vkitti2", tmp_path / "set", listing=listing)
        assert [dataset.key(i) for i in range(len(dataset))] == [wanted]
    listing.write_text("Scene99/x/rgb_00000.jpg\n")
    with pytest.raises(DataError, match="1 of 1 paths are not in the data set, first 'Scene99"):
        open_dataset("vkitti2", tmp_path / "set", listing=listing)


def test_a_mixture_reads_its_parts_in_the_order_of_its_counter(tmp_path: Path) -> None:
    for name in ("vkitti2", "irs"):
        WRITERS[name].write(tmp_path / name)
    parts = [(name, open_dataset(name, tmp_path / name)) for name in ("vkitti2", "irs")]
    plain = MixedDataset(parts, seed=5)
    assert plain.counts == {"vkitti2": 2, "irs": 2}
    names = [plain.key(plain.at(p)) for p in range(4)]
    assert sorted(names) == sorted(plain.key(i) for i in range(4)) and names[0].split("/")[0] in ("vkitti2", "irs")
    weighted = MixedDataset(parts, weights=(0.05, 0.95), seed=5)
    shares = [weighted.key(weighted.at(p)).split("/")[0] for p in range(1000)]
    assert shares.count("vkitti2") == 50
    sample = weighted.read(weighted.at(7))
    assert weighted.key(weighted.at(7)).endswith(sample.name)
    again = pickle.loads(pickle.dumps(weighted))  # noqa: S301
    assert [again.at(p) for p in range(20)] == [weighted.at(p) for p in range(20)]
    with pytest.raises(UsageError, match="same name"):
        MixedDataset([parts[0], parts[0]])


TOY = """
from datk.data.adapters.base import Adapter, Item
from datk.data.adapters.layout import Layout
from datk.data.depth_files import read_npy
from datk.data.sample import Sample
from datk.depth.preprocess import read_image

def read(item: Item) -> Sample:
    return Sample(name=item.key, image=read_image(item.image), depth_m=read_npy(item.depth))

ADAPTER = Adapter(
    name="yolo_depth", title="Toy", role="train", scenes="both", licence="CC0", home="nowhere",
    depth=".npy metres", layouts=(Layout(image="images/{name}.jpg", depth="depth/{name}.npy"),), read=read,
)
"""


@pytest.fixture
def fresh_registry() -> Iterator[None]:
    adapters.available.cache_clear()
    yield
    adapters.available.cache_clear()


PAGE = Path(__file__).parents[3] / "docs" / "datasets.md"


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize("as_folder", [False, True])
def test_the_one_file_of_the_page_is_a_new_data_set(
    as_folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = re.search(r"```python\n# file: (\w+\.py)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / found[1]).write_text(found[2])
    monkeypatch.setenv("DATK_ADAPTERS_PATH", str(tmp_path / "mine" / ("" if as_folder else found[1])))
    for frame in ("a", "b"):
        save_picture(tmp_path / "set" / "train" / "attic" / "rgb" / f"{frame}.jpg")
        save_png16(tmp_path / "set" / "train" / "attic" / "depth" / f"{frame}.png", np.full((24, 32), 2500))
    dataset = open_dataset("my_rooms", tmp_path / "set", "train")
    depth_m = dataset.read(1).depth_m
    assert depth_m is not None and float(depth_m.max()) == 2.5
    report = check(tmp_path / "set", "my_rooms", sheet=tmp_path / "sheet.jpg")
    assert report.pairs == 2 and report.depth["max"] == 2.5
    with pytest.raises(DataError, match="this is a folder inside My rooms"):
        open_dataset("my_rooms", tmp_path / "set" / "train" / "attic")


def test_the_page_names_every_set_and_every_preset() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [n for n in (*adapters.available(), *PRESETS) if f"| `{n}` |" not in text] == []


@pytest.mark.parametrize(
    ("name", "package"), [("hypersim", "h5py"), ("irs", "OpenEXR"), ("nyuv2", "h5py"), ("nyuv2", "scipy.io")]
)
def test_without_its_package_a_set_ends_with_code_4_and_the_pip_line(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS[name].write(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EnvironmentLacks, match=f"needs the package {package.split('.')[0]}") as caught:
        open_dataset(name, tmp_path).read(0)
    assert caught.value.exit_code == 4 and caught.value.hint == 'pip install "datk[data]"'


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TOY.replace("yolo_depth", "irs"), "two data sets are named 'irs'"),
        ("ADAPTER = 3", "ADAPTER is a int, expected"),
        (None, "is no .py file"),
    ],
)
def test_a_wrong_adapter_file_is_refused(
    text: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is not None:
        (tmp_path / "toy.py").write_text(text)
    monkeypatch.setenv("DATK_ADAPTERS_PATH", str(tmp_path / "toy.py"))
    with pytest.raises(UsageError, match=says):
        adapters.available()
