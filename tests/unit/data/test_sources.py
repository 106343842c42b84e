"""Unlabelled images: folders, lists, tar shards and LMDB, written by the libraries people write them with."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import webdataset
from numpy.typing import NDArray
from PIL import Image

from datk.data.sources import lmdb_source, open_images
from datk.data.sources.presets import PRESETS
from datk.depth.preprocess import decode_image
from datk.errors import DataError, EnvironmentLacks, UsageError


def picture(value: int = 90, *, height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    """Bright top left quarter, so that a turned or mirrored copy is seen."""
    image = np.full((height, width, 3), value, np.uint8)
    image[: height // 2, : width // 2] = (250, 200, 30)
    return image


def jpeg(value: int = 90) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture(value)).save(out, "JPEG", quality=95)
    return out.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_shards(folder: Path, counts: tuple[int, ...]) -> None:
    folder.mkdir(exist_ok=True)
    for shard, count in enumerate(counts):
        with webdataset.TarWriter(str(folder / f"s-{shard:03d}.tar")) as sink:
            for i in range(count):
                sink.write({"__key__": f"k{i:04d}", "jpg": jpeg(10 * shard + i), "json": {"id": i}})


def write_lmdb(folder: Path, values: dict[bytes, bytes]) -> None:
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**22) as environment, environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key, value)


# --- every kind gives names and pictures in a fixed order ------------------------------------------


def folder_spec(root: Path) -> tuple[str, list[str]]:
    for name in ("b/2.jpg", "a.JPG", "b/1.jpeg"):
        write(root / name, jpeg())
    write(root / "notes.txt", b"no picture")
    return str(root), ["a.JPG", "b/1.jpeg", "b/2.jpg"]


def list_spec(root: Path) -> tuple[str, list[str]]:
    folder_spec(root / "photos")
    write(root / "these.txt", b"# chosen\nphotos/b/2.jpg\n\nphotos/a.JPG\n")
    return f"list:{root}/these.txt", ["photos/b/2.jpg", "photos/a.JPG"]


def tar_spec(root: Path) -> tuple[str, list[str]]:
    write_shards(root, (2, 1))
    return f"tar:{root}/s-{{000..001}}.tar", ["s-000.tar/k0000.jpg", "s-000.tar/k0001.jpg", "s-001.tar/k0000.jpg"]


def lmdb_spec(root: Path) -> tuple[str, list[str]]:
    write_lmdb(root / "bedroom_train_lmdb", {b"f" * 4: jpeg(), b"0" * 4: jpeg(), b"__len__": b"2"})
    return f"lmdb:{root}/bedroom_train_lmdb", ["0000", "ffff"]


@pytest.mark.parametrize("make", [folder_spec, list_spec, tar_spec, lmdb_spec])
def test_a_source_names_and_reads_its_pictures_in_a_fixed_order_also_after_pickling(
    make: Callable[[Path], tuple[str, list[str]]], tmp_path: Path
) -> None:
    spec, keys = make(tmp_path)
    source = open_images(spec)
    assert [source.key(i) for i in range(len(source))] == keys
    assert source.name == spec
    for again in (source, pickle.loads(pickle.dumps(source))):  # noqa: S301
        for i in range(len(again)):
            image = again.read(i)
            assert image.shape == (40, 60, 3) and image.dtype == np.uint8
            assert np.abs(image[5, 5].astype(int) - (250, 200, 30)).max() < 12
            assert decode_image(again.encoded(i), name="x").tobytes() == image.tobytes()


def test_tar_members_are_read_from_their_own_bytes(tmp_path: Path) -> None:
    write_shards(tmp_path, (3, 2))
    source = open_images(f"tar:{tmp_path}/s-*.tar")
    values = [int(source.read(i)[30, 50, 0]) for i in (4, 0, 2, 3, 1)]
    assert np.abs(np.array(values) - [11, 0, 2, 10, 1]).max() <= 1


def test_companions_of_a_picture_in_a_shard_are_no_pictures_but_dots_in_names_do_no_harm(tmp_path: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "s.tar")) as sink:
        sink.write({"__key__": "a/000", "jpg": jpeg(), "seg.png": jpeg(), "txt": "x"})
        sink.write({"__key__": "a/001", "2020.01.02.jpg": jpeg()})
    source = open_images(f"tar:{tmp_path}/s.tar")
    assert [source.key(i) for i in range(len(source))] == ["s.tar/a/000.jpg", "s.tar/a/001.2020.01.02.jpg"]


def test_several_shard_patterns_keep_the_order_they_are_named_in(tmp_path: Path) -> None:
    write_shards(tmp_path, (1, 1, 1))
    source = open_images(f"tar:{tmp_path}/s-002.tar::{tmp_path}/s-00[01].tar")
    assert [source.key(i)[:5] for i in range(3)] == ["s-002", "s-000", "s-001"]


def test_many_lmdbs_below_one_folder_are_one_source(tmp_path: Path) -> None:
    for name in ("kitchen_train_lmdb", "bedroom_train_lmdb"):
        write_lmdb(tmp_path / name, {b"k1": jpeg(), b"longer": jpeg()})
    source = open_images(f"lmdb:{tmp_path}")
    assert [source.key(i) for i in range(4)] == [
        "bedroom_train_lmdb/k1", "bedroom_train_lmdb/longer", "kitchen_train_lmdb/k1", "kitchen_train_lmdb/longer"
    ]  # fmt: skip
    assert source.read(3).shape == (40, 60, 3)


def _inherited() -> int:
    return len(lmdb_source._OPEN)


def test_an_lmdb_opened_before_a_fork_is_read_after_it(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "db", {b"k": b"value"})
    source = open_images(f"lmdb:{tmp_path}/db")
    assert source.encoded(0) == b"value"
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_inherited) == 0, "LMDB must not be used across a fork"
        assert pool.map(source.encoded, [0]) == [b"value"]


def test_a_path_object_with_a_colon_is_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "list:of" / "a.jpg", jpeg())
    assert len(open_images(tmp_path / "list:of")) == 1


# --- what cannot be read says why ------------------------------------------------------------------


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="no kind of source named 'placess365'") as caught:
        open_images("placess365:/data")
    assert "did you mean 'places365:'?" in str(caught.value.hint)


def gzip_tar(root: Path) -> str:
    with tarfile.open(root / "t.tar", "w:gz") as archive:
        archive.add(write(root / "a.jpg", jpeg()), "a.jpg")
    return f"tar:{root}/t.tar"


def cut_tar(root: Path) -> str:
    write_shards(root, (3,))
    data = (root / "s-000.tar").read_bytes()
    write(root / "s-000.tar", data[: len(data) // 2 - 512])
    return f"tar:{root}/s-000.tar"


def tar_cut_between_members(root: Path) -> str:
    write_shards(root, (2,))
    data = (root / "s-000.tar").read_bytes()
    with tarfile.open(root / "s-000.tar") as archive:
        second = archive.getmembers()[2]
    write(root / "s-000.tar", data[: second.offset])
    return f"tar:{root}/s-000.tar"


def no_tar(root: Path) -> str:
    return f"tar:{write(root / 'x.tar', b'x' * 2000)}"


def empty_tar(root: Path) -> str:
    with tarfile.open(root / "e.tar", "w") as archive:
        archive.add(write(root / "a.txt", b"no"), "a.txt")
    return f"tar:{root}/e.tar"


def same_names(root: Path) -> str:
    write_shards(root / "a", (1,))
    write_shards(root / "b", (1,))
    return f"tar:{root}/a/s-000.tar::{root}/b/s-000.tar"


def missing_shard(root: Path) -> str:
    write_shards(root, (1,))
    return f"tar:{root}/s-{{000..002}}.tar"


def empty_list(root: Path) -> str:
    return f"list:{write(root / 'l.txt', b'# nothing')}"


def double_list(root: Path) -> str:
    return f"list:{write(root / 'l.txt', b'a.jpg' + bytes([10]) + b'a.jpg')}"


def bad_lmdb(root: Path) -> str:
    write(root / "db" / "data.mdb", b"nonsense" * 1000)
    return f"lmdb:{root}/db"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (gzip_tar, "compressed tar cannot be read in any order"),
        (cut_tar, "cut short at 'k000"),
        (tar_cut_between_members, "cut short at 'k0000"),
        (no_tar, "not a whole tar archive"),
        (empty_tar, "holds no pictures"),
        (same_names, "two shards are named s-000.tar"),
        (missing_shard, r"s-001\.tar is missing and 1 more"),
        (lambda root: f"tar:{root}/none-*.tar", "matches no file"),
        (lambda root: f"list:{root}/none.txt", "not a readable list"),
        (empty_list, "names no pictures"),
        (double_list, "names 'a.jpg' more than once"),
        (bad_lmdb, "not a readable LMDB"),
        (lambda root: f"lmdb:{root}", r"no data\.mdb"),
        (lambda root: str(root), "holds no pictures"),
        (lambda root: f"{root}/gone", "no such folder"),
        (lambda root: f"sa1b:{root}", "does not look like SA-1B"),
    ],
)
def test_a_broken_source_says_what_is_wrong(make: Callable[[Path], str], says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says):
        open_images(make(tmp_path))


def test_a_compressed_shard_names_the_command_that_helps(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_images(gzip_tar(tmp_path))
    assert caught.value.hint is not None and "gunzip" in caught.value.hint


def test_a_listed_file_that_is_gone_is_named_when_read(tmp_path: Path) -> None:
    source = open_images(f"list:{write(tmp_path / 'l.txt', b'gone.jpg')}")
    with pytest.raises(DataError, match=r"gone\.jpg: cannot be read"):
        source.read(0)


@pytest.mark.parametrize(("spec", "package"), [("lmdb:{0}/db", "lmdb"), ("tar:{0}/s-{{000..001}}.tar", "braceexpand")])
def test_without_its_package_a_source_ends_with_code_4_and_the_pip_line(
    spec: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lmdb(tmp_path / "db", {b"k": jpeg()})
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EnvironmentLacks, match=package) as caught:
        open_images(spec.format(tmp_path))
    assert caught.value.exit_code == 4 and caught.value.hint == 'pip install "datk[data]"'


# --- the paper's eight -----------------------------------------------------------------------------

EXAMPLES = {
    "bdd100k": ["images/100k/train/0000f77c-6257be58.jpg", "images/100k/val/b1c66a42-6f7d68ca.jpg"],
    "google_landmarks": ["train/6/b/c/6bc8ba25f2f4ab3b.jpg"],
    "imagenet21k": ["n01440764/n01440764_10026.JPEG"],
    "objects365": ["train/patch0/objects365_v1_00000001.jpg", "train/patch16/objects365_v2_00900001.jpg"],
    "open_images_v7": ["train_0/000002b66c9c498e.jpg", "validation/0001eeaf4aed83f9.jpg"],
    "places365": ["data_large/a/airfield/00000001.jpg", "data_large/b/balcony/exterior/00000001.jpg"],
    "sa1b": ["sa_000020/sa_223750.jpg"],
}


@pytest.mark.parametrize("name", [n for n in PRESETS if n != "lsun"])
def test_a_preset_finds_its_own_layout_and_leaves_other_files_out(name: str, tmp_path: Path) -> None:
    for path in EXAMPLES[name]:
        write(tmp_path / path, jpeg())
    write(tmp_path / "readme" / "logo.png", jpeg())
    source = open_images(f"{name}:{tmp_path}")
    assert [source.key(i) for i in range(len(source))] == sorted(EXAMPLES[name])
    assert source.read(0).shape == (40, 60, 3)


def test_a_preset_that_was_never_unpacked_says_so(tmp_path: Path) -> None:
    write(tmp_path / "train_0.tar.gz", b"x")
    with pytest.raises(DataError, match="holds compressed archives only, first train_0"):
        open_images(f"open_images_v7:{tmp_path}")


def test_lsun_is_read_from_its_lmdbs(tmp_path: Path) -> None:
    webp = cv2.imencode(".webp", picture()[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 95])[1].tobytes()
    write_lmdb(tmp_path / "lsun" / "bedroom_train_lmdb", {b"a" * 40: webp})
    source = open_images(f"lsun:{tmp_path}")
    assert source.key(0) == "a" * 40 and source.read(0).shape == (40, 60, 3)


def test_presets_also_read_their_tars(tmp_path: Path) -> None:
    write_shards(tmp_path, (2,))
    (tmp_path / "s-000.tar").rename(tmp_path / "sa_000020.tar")
    assert len(open_images(f"sa1b:{tmp_path}")) == 2


def test_the_eight_presets_add_up_to_the_papers_62_million() -> None:
    assert len(PRESETS) == 8
    assert round(sum(p.paper_images for p in PRESETS.values()) / 1e6, 1) == 62.3
    assert all(p.licence and p.home.startswith("http") for p in PRESETS.values())


# --- decoding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_pictures_stand_upright_whatever_their_exif_says(form: str, orientation: int) -> None:
    from PIL import ImageOps

    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(picture()).save(out, form, exif=exif)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(out.getvalue()))))
    found = decode_image(out.getvalue(), name="x")
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted[..., :3]).mean() < 2


def encode(image: Image.Image, form: str) -> bytes:
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_grey_palette_and_alpha_become_rgb_as_pillow_has_it(mode: str) -> None:
    image = Image.fromarray(picture()).convert(mode)
    wanted = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(decode_image(encode(image, "PNG"), name="x") - wanted).max() <= 1


def test_sixteen_bits_keep_their_upper_eight() -> None:
    wide = picture().astype(np.uint16) * 256 + 255
    for image, form in ((wide, ".png"), (wide[..., 0], ".png"), (wide, ".tif")):
        data = cv2.imencode(form, image)[1].tobytes()
        found = decode_image(data, name="x")
        wanted = picture()[..., ::-1] if image.ndim == 3 else picture()[..., :1].repeat(3, axis=2)
        assert np.abs(found.astype(int) - wanted).max() <= 1


def test_cmyk_is_converted_not_inverted() -> None:
    image = Image.fromarray(picture()).convert("CMYK")
    wanted = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(decode_image(encode(image, "JPEG"), name="x") - wanted).mean() < 5


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.95])
def test_a_picture_cut_short_is_refused_never_half_grey(form: str, kept: float) -> None:
    data = encode(Image.fromarray(picture()), form)
    with pytest.raises(DataError, match="shard/7"):
        decode_image(data[: int(kept * len(data))], name="shard/7")


def test_a_jpeg_cut_short_is_seen_behind_its_thumbnail_and_a_tail_does_no_harm() -> None:
    from datk.depth.preprocess import _jpeg_cut_short

    thumbnail = jpeg()
    whole = jpeg()
    exif = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    with_thumbnail = whole[:2] + exif + whole[2:]
    assert not _jpeg_cut_short(with_thumbnail) and not _jpeg_cut_short(whole + b"\0" * 5000)
    assert _jpeg_cut_short(with_thumbnail[: len(with_thumbnail) - 200])
