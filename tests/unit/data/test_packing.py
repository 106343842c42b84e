"""Packing: every readable image once, small, upright, under its name; the same bytes whoever does it and when."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import webdataset
from PIL import Image

from datk.data import packing as packing_module
from datk.data.packing import Packing, pack
from datk.data.sources import open_images
from datk.errors import DataError, UsageError
from tests.unit.cli.conftest import datk as datk_line

datk = datk_line
SMALL = Packing(short_side=24, per_shard=3)


def photos(folder: Path, count: int = 7) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        image = np.full((40, 60, 3), 20 * i, np.uint8)
        image[:20, :30] = (250, 200, 30)
        Image.fromarray(image).save(folder / f"p{i}.jpg", quality=95)
    return folder


def digests(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(out.iterdir())}


def test_every_image_is_packed_once_small_and_under_its_name(tmp_path: Path) -> None:
    source = open_images(photos(tmp_path / "in"))
    done = pack(source, tmp_path / "out", SMALL)
    assert (done.shards, done.written, done.images, done.left_out) == (3, 3, 7, 0)
    packed = open_images(f"tar:{tmp_path}/out/shard-*.tar")
    assert len(packed) == 7
    for i in range(7):
        image = packed.read(i)
        assert image.shape == (24, 36, 3)
        assert np.abs(image[4, 4].astype(int) - (250, 200, 30)).max() < 16
        assert abs(int(image[20, 30, 0]) - 20 * i) < 4
    shards = [str(p) for p in sorted((tmp_path / "out").glob("*.tar"))]
    keys = [json.loads(s["json"])["key"] for s in webdataset.WebDataset(shards, shardshuffle=False)]
    assert keys == [source.key(i) for i in range(7)], "WebDataset's own reader finds image and name together"


def test_small_jpegs_are_kept_byte_for_byte_and_turned_ones_are_set_upright(tmp_path: Path) -> None:
    folder = photos(tmp_path / "in", 1)
    turned = Image.Exif()
    turned[0x112] = 6
    Image.fromarray(np.zeros((30, 50, 3), np.uint8)).save(folder / "turned.jpg", exif=turned)
    Image.fromarray(np.zeros((30, 50, 4), np.uint8)).save(folder / "alpha.png")
    pack(open_images(folder), tmp_path / "out", Packing(short_side=None))
    packed = open_images(f"tar:{tmp_path}/out/shard-000000.tar")
    assert packed.encoded(1) == (folder / "p0.jpg").read_bytes()
    assert packed.read(2).shape == (50, 30, 3)
    assert packed.encoded(0).startswith(b"\xff\xd8")


def test_the_bytes_do_not_depend_on_workers_parts_or_interruptions(tmp_path: Path, monkeypatch: Any) -> None:
    source = open_images(photos(tmp_path / "in"))
    pack(source, tmp_path / "one", SMALL, workers=1)
    wanted = digests(tmp_path / "one")
    for k in (2, 0, 1):
        pack(source, tmp_path / "parts", SMALL, part=(k, 3), workers=3)
    assert digests(tmp_path / "parts") == wanted

    real, calls = packing_module.stored, []

    def dies(data: bytes, packing: Packing, *, name: str) -> bytes:
        calls.append(name)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(data, packing, name=name)

    monkeypatch.setattr(packing_module, "stored", dies)
    with pytest.raises(KeyboardInterrupt):
        pack(source, tmp_path / "killed", SMALL, workers=1)
    assert set(digests(tmp_path / "killed")) == {"shard-000000.tar", "shard-000000.json"}, "no half shard is left"
    done = pack(source, tmp_path / "killed", SMALL)
    assert (done.written, done.kept) == (2, 1)
    assert digests(tmp_path / "killed") == wanted


def test_a_shard_without_manifest_or_of_another_length_is_written_again(tmp_path: Path) -> None:
    source = open_images(photos(tmp_path / "in"))
    pack(source, tmp_path / "out", SMALL)
    wanted = digests(tmp_path / "out")
    (tmp_path / "out" / "shard-000001.json").unlink()
    cut = tmp_path / "out" / "shard-000002.tar"
    cut.write_bytes(cut.read_bytes()[:-100])
    assert pack(source, tmp_path / "out", SMALL).written == 2
    assert digests(tmp_path / "out") == wanted


def test_an_unreadable_image_is_left_out_by_name_with_the_reason(tmp_path: Path) -> None:
    folder = photos(tmp_path / "in")
    (folder / "p4.jpg").write_bytes(b"no jpeg")
    done = pack(open_images(folder), tmp_path / "out", SMALL)
    assert (done.images, done.left_out) == (6, 1)
    manifest = json.loads((tmp_path / "out" / "shard-000001.json").read_text())
    assert manifest["left_out"] == [{"key": "p4.jpg", "reason": manifest["left_out"][0]["reason"]}]
    assert "not a readable picture" in manifest["left_out"][0]["reason"]
    assert len(open_images(f"tar:{tmp_path}/out/shard-*.tar")) == 6


def test_a_folder_of_other_shards_is_refused(tmp_path: Path) -> None:
    source = open_images(photos(tmp_path / "in"))
    pack(source, tmp_path / "out", SMALL)
    with pytest.raises(DataError, match="holds something else: packing"):
        pack(source, tmp_path / "out", Packing(short_side=32, per_shard=3))
    with pytest.raises(DataError, match="holds something else: source_images 7"):
        pack(open_images(photos(tmp_path / "other", 8)), tmp_path / "out", SMALL)
    moved = (tmp_path / "in").rename(tmp_path / "moved")
    assert pack(open_images(moved), tmp_path / "out", SMALL).kept == 3, "another path on another machine is no matter"
    (tmp_path / "out" / "shard-000000.json").write_text("{")
    with pytest.raises(DataError, match="not a manifest"):
        pack(open_images(moved), tmp_path / "out", SMALL)


def test_the_command_packs_a_part_and_says_what_it_did(datk: Any, tmp_path: Path) -> None:
    photos(tmp_path / "in")
    words = ("data", "pack", "in", "--out", "out", "--per-shard", "3", "--short-side", "24")
    ended = datk(*words, "--part", "2/2", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == {"out": "out", "shards": 1, "written": 1, "kept": 0, "images": 3, "left_out": 0}
    ended = datk(*words)
    assert "7 images in 3 shards in out: 2 written, 1 were there" in ended.err
    assert datk(*words, "--part", "3/2").code == 2 and datk(*words, "--part", "x").code == 2
    assert cv2.imdecode(np.frombuffer(_first_member(tmp_path / "out"), np.uint8), 1).shape == (24, 36, 3)


def _first_member(out: Path) -> bytes:
    with tarfile.open(out / "shard-000000.tar") as archive:
        member = archive.extractfile(archive.getmembers()[0])
        assert isinstance(member, io.BufferedReader)
        return member.read()


@pytest.mark.parametrize("wrong", [{"short_side": 5}, {"quality": 0}, {"per_shard": 0}])
def test_what_is_no_packing_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Packing(**wrong)
