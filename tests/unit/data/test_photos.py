"""The photographs that ship with datk."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from datk.artifact.files import size_bytes
from datk.data import photos
from datk.data.photos import builtin_folder, builtin_photos, check_digest, check_held_out, read_index
from datk.depth.preprocess import read_image
from datk.errors import DataError

INDEX = json.loads((builtin_folder() / "index.json").read_text(encoding="utf-8"))["photos"]


def difference_hash(path: Path) -> int:
    grey = read_image(path).mean(axis=2).astype(np.float32)
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return int("".join("1" if bit else "0" for bit in (small[:, :-1] > small[:, 1:]).ravel()), 2)


def test_every_builtin_photo_hashes_as_listed_and_nothing_else_lies_there() -> None:
    listed = {p.path for split in ("train", "validation") for p in builtin_photos(split)}  # type: ignore[arg-type]
    assert listed == set((builtin_folder() / "photos").iterdir())
    assert len(listed) == len(INDEX) == 300


def test_splits_are_disjoint_and_large_enough_for_the_gates() -> None:
    names = {s: {p.name for p in builtin_photos(s)} for s in photos.SPLITS}
    assert names["calibration"] < names["train"]
    assert not names["train"] & names["validation"]
    assert len(names["validation"]) >= 64
    assert len(names["calibration"]) >= 100


def test_builtin_photos_stay_small_and_under_file_level_licences() -> None:
    assert size_bytes(builtin_folder() / "photos") <= 8_000_000
    assert all(e["licence"] and e["credit"] and e["original"] for e in INDEX)
    assert not [e for e in INDEX if re.search(r"BY.SA|NC", e["licence"].upper())]
    assert {e["source"] for e in INDEX} == {
        "panorama", "gb82", "kodak", "lanes", "oakd", "skimage", "sklearn", "lomiri", "caltech101",
    }  # fmt: skip


def test_index_states_the_true_size_of_each_picture() -> None:
    for entry in INDEX[::10]:
        image = read_image(builtin_folder() / entry["file"])
        assert image.shape == (entry["height"], entry["width"], 3)


def test_no_validation_photo_looks_like_a_training_photo() -> None:
    train = {p.name: difference_hash(p.path) for p in builtin_photos("train")}
    for photo in builtin_photos("validation"):
        own = difference_hash(photo.path)
        nearest = min(train, key=lambda name: (train[name] ^ own).bit_count())
        assert (train[nearest] ^ own).bit_count() > 6, f"{photo.name} looks like {nearest}"


def test_no_panorama_or_road_is_divided_between_splits() -> None:
    split_of: dict[str, set[str]] = {}
    for entry in INDEX:
        place = entry["original"].split(" (perspective")[0].split(" frame ")[0]
        split_of.setdefault(place, set()).add(entry["split"])
    assert all(len(splits) == 1 for splits in split_of.values())


def test_the_first_photos_of_a_split_come_from_many_sources() -> None:
    for split in photos.SPLITS:
        assert len({p.source for p in builtin_photos(split)[:24]}) >= 5


def test_a_changed_photo_is_named(tmp_path: Path) -> None:
    shutil.copytree(builtin_folder() / "photos", tmp_path / "photos")
    shutil.copyfile(builtin_folder() / "index.json", tmp_path / "index.json")
    victim = read_index(tmp_path, "validation")[0]
    victim.path.write_bytes(victim.path.read_bytes()[:-1] + b"\0")
    with pytest.raises(DataError, match=f"{victim.name}: changed since it was listed"):
        photos._checked(tmp_path, "validation")
    with pytest.raises(DataError, match=victim.name):
        victim.read()


def test_a_missing_photo_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg: missing"):
        check_digest(tmp_path / "gone.jpg", "0" * 64)


def test_a_broken_index_is_named(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"index\.json: not a readable photograph index"):
        read_index(tmp_path, "train")


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(DataError, match="no split named 'test'"):
        builtin_photos("test")  # type: ignore[arg-type]


def test_photographs_used_for_calibration_and_for_judging_are_named(tmp_path: Path) -> None:
    calibration = [p.path for p in builtin_photos("calibration")]
    held_out = [p.path for p in builtin_photos("validation")]
    check_held_out(held_out, calibration)
    renamed = Path(shutil.copyfile(calibration[0], tmp_path / "renamed.jpg"))
    with pytest.raises(DataError, match=r"1 of 73 photographs to judge on were also used .*: renamed\.jpg"):
        check_held_out([*held_out, renamed], calibration)
