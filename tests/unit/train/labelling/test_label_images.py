"""What a labelling job leaves behind: every image in it exactly once, with its error and quality stated."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from datk.artifact.files import sha256_file
from datk.data.sources import ImageSource, open_images
from datk.depth.io_spec import DepthKind
from datk.depth.teacher import NEAREST_M
from datk.errors import DataError
from datk.train.labelling.keep_out import keep_out_of
from datk.train.labelling.read import check_folder, images_of, open_labels
from datk.train.pseudo_label import label_images
from tests.unit.train.labelling.toys import SECTION, BrightTeacher, photograph, write_photos


def manifests(out: Path) -> list[dict]:
    return [json.loads(p.read_text()) for p in sorted((out / "shards").glob("*.json"))]


@pytest.fixture
def done(images: ImageSource, tmp_path: Path) -> Path:
    label_images(BrightTeacher(), images, tmp_path / "labels", SECTION)
    return tmp_path / "labels"


def test_a_label_gives_back_the_teachers_map_within_the_stated_error(done: Path, images: ImageSource) -> None:
    teacher, labels = BrightTeacher(), open_labels(done)
    assert len(labels) == len(images) == 11
    for index in range(11):
        line = [line for m in manifests(done) for line in m["labels"]][index]
        expected = teacher.predict(teacher.prepare(images.read(labels.number(index))).pixels[None])[0]
        found = labels.label(index) * line["scale"] + line["shift"]
        bound = manifests(done)[0]["encoding"]["max_error_rel_bound"]
        assert line["error_rel"] <= bound == 0.5 / 65535
        assert np.abs(found - expected).max() <= line["scale"] * (line["error_rel"] + 1e-6)


def test_the_shards_are_tar_files_with_a_manifest_each(done: Path) -> None:
    found = manifests(done)
    assert [(m["first"], m["count"]) for m in found] == [(0, 4), (4, 4), (8, 3)]
    for manifest in found:
        path = done / "shards" / manifest["file"]
        assert sha256_file(path) == manifest["sha256"] and path.stat().st_size == manifest["bytes"]
        with tarfile.open(path) as tar:
            members = {int(m.name.removesuffix(".png")): tar.extractfile(m).read() for m in tar}
            assert {m.mtime for m in tar} == {0}
        assert sorted(members) == [line["number"] for line in manifest["labels"]]
        for line in manifest["labels"]:
            decoded = cv2.imdecode(np.frombuffer(members[line["number"]], np.uint8), cv2.IMREAD_UNCHANGED)
            assert decoded.dtype == np.uint16 and list(decoded.shape) == line["size"]
        assert manifest["teacher"]["digest"] == BrightTeacher.digest and manifest["teacher"]["licence"] == "Apache-2.0"
    index = json.loads((done / "index.json").read_text())
    assert index["images"] == index["labels"] == 11 and index["quality"]["flip_checked"] == 6
    assert index["quality"]["flip_error_median"] == 0.0, "brightness does not change when mirrored"
    assert not (done / "claims").exists() and check_folder(done)["labels"] == 11


def test_a_finished_job_is_not_labelled_again(done: Path, images: ImageSource) -> None:
    before, teacher = sha256_file(done), BrightTeacher()
    assert label_images(teacher, images, done, SECTION).labels == 11
    assert teacher.seen == 0 and sha256_file(done) == before


def test_a_shard_without_its_manifest_is_redone_and_the_others_are_kept(done: Path, images: ImageSource) -> None:
    before, teacher = sha256_file(done), BrightTeacher()
    (done / "index.json").unlink()
    (done / "shards/000001.json").unlink()
    (done / "shards/.000001.123.abcd.tar.part").write_bytes(b"half")
    label_images(teacher, images, done, SECTION)
    assert teacher.seen == 4 + 2 and sha256_file(done) == before, "four images, two of them mirrored as well"


def test_unreadable_images_are_listed_and_the_rest_is_labelled(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 5)
    (folder / "p001.png").write_bytes(b"")
    (folder / "p003.png").write_bytes(b"not a picture")
    found = label_images(BrightTeacher(), open_images(folder), tmp_path / "labels", SECTION)
    assert (found.images, found.labels, found.quarantined) == (5, 3, 2)
    listed = json.loads((tmp_path / "labels/index.json").read_text())["quarantined"]
    assert [(q["number"], q["key"]) for q in listed] == [(1, "p001.png"), (3, "p003.png")]
    assert all(q["reason"] for q in listed)
    assert [open_labels(tmp_path / "labels").number(i) for i in range(3)] == [0, 2, 4]


def test_a_source_of_which_nothing_can_be_read_is_an_error(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 2)
    for path in folder.iterdir():
        path.write_bytes(b"x")
    with pytest.raises(DataError, match="none of 2 images got a label"):
        label_images(BrightTeacher(), open_images(folder), tmp_path / "labels", SECTION)


def test_a_benchmarks_image_is_kept_out_resized_recompressed_or_mirrored(tmp_path: Path) -> None:
    bench = write_photos(tmp_path / "bench", 1)
    folder = write_photos(tmp_path / "photos", 0)
    big = cv2.resize(photograph(0), (150, 100), interpolation=cv2.INTER_CUBIC)[..., ::-1]
    cv2.imwrite(str(folder / "a_copy.jpg"), big, [cv2.IMWRITE_JPEG_QUALITY, 60])
    cv2.imwrite(str(folder / "b_mirrored.jpg"), big[:, ::-1])
    cv2.imwrite(str(folder / "c_other.jpg"), photograph(5)[..., ::-1])
    keep_out = keep_out_of({"bench": sorted(bench.iterdir())}, roots={"bench": bench})
    found = label_images(BrightTeacher(), open_images(folder), tmp_path / "out", SECTION, keep_out=keep_out)
    assert (found.labels, found.kept_out) == (1, 2)
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert [(k["key"], k["benchmark"], k["mirrored"]) for k in index["kept_out"]] == [
        ("a_copy.jpg", "bench/p000.png", False),
        ("b_mirrored.jpg", "bench/p000.png", True),
    ]
    assert index["kept_out_sets"] == {"bench": 1}


class MetricTeacher(BrightTeacher):
    depth_kind = DepthKind.DEPTH_METRIC_M

    def predict(self, batch: np.ndarray) -> np.ndarray:
        return (super().predict(batch) - 3) / 50


class AffineTeacher(MetricTeacher):
    depth_kind = DepthKind.DEPTH_AFFINE_INVARIANT


def test_a_metric_teachers_depth_is_inverted(images: ImageSource, tmp_path: Path) -> None:
    label_images(MetricTeacher(), images, tmp_path, SECTION)
    teacher = MetricTeacher()
    depth_m = teacher.predict(teacher.prepare(images.read(0)).pixels[None])[0]
    disparity = 1 / np.maximum(depth_m, NEAREST_M)
    expected = (disparity - disparity.min()) / np.ptp(disparity)
    assert np.abs(open_labels(tmp_path).label(0) - expected).max() < 1e-4


def test_depth_without_scale_and_shift_keeps_its_order_nearer_larger(images: ImageSource, tmp_path: Path) -> None:
    label_images(AffineTeacher(), images, tmp_path, SECTION)
    teacher = AffineTeacher()
    depth = teacher.predict(teacher.prepare(images.read(0)).pixels[None])[0].ravel()
    label = open_labels(tmp_path).label(0).ravel()
    assert label[depth.argmin()] == 1 and label[depth.argmax()] == 0
    assert (np.diff(label[np.argsort(depth)]) <= 0).all()


class ConstantTeacher(BrightTeacher):
    def predict(self, batch: np.ndarray) -> np.ndarray:
        return np.zeros_like(super().predict(batch))


def test_degenerate_labels_are_counted_with_their_reason_and_never_read(images: ImageSource, tmp_path: Path) -> None:
    found = label_images(ConstantTeacher(), images, tmp_path, SECTION)
    assert (found.labels, found.usable) == (11, 0)
    assert manifests(tmp_path)[0]["labels"][0]["degenerate"] == "constant at 0"
    with pytest.raises(DataError, match="no usable label"):
        open_labels(tmp_path)


class BrokenTeacher(BrightTeacher):
    def predict(self, batch: np.ndarray) -> np.ndarray:
        return np.full_like(super().predict(batch), np.nan)


def test_a_teacher_that_puts_out_nan_stops_the_job_by_name(images: ImageSource, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"p000\.png: the teacher's map is not finite"):
        label_images(BrokenTeacher(), images, tmp_path, SECTION)


def test_another_job_in_the_same_folder_is_refused_and_says_what_differs(done: Path, images: ImageSource) -> None:
    with pytest.raises(DataError, match=r"section \(batch_size\)"):
        label_images(BrightTeacher(), images, done, SECTION.model_copy(update={"batch_size": 2}))
    other = BrightTeacher()
    other.digest = "1" * 64
    with pytest.raises(DataError, match="different: teacher"):
        label_images(other, images, done, SECTION)


def test_two_images_of_one_key_and_an_empty_source_are_refused(tmp_path: Path) -> None:
    class Twins:
        name = "twins"

        def __len__(self) -> int:
            return 2

        def key(self, index: int) -> str:
            return "same.jpg"

        def encoded(self, index: int) -> bytes:
            return b""

    class Empty(Twins):
        def __len__(self) -> int:
            return 0

    with pytest.raises(DataError, match=r"two images with the key same\.jpg"):
        label_images(BrightTeacher(), Twins(), tmp_path, SECTION)
    with pytest.raises(DataError, match="no images to label"):
        label_images(BrightTeacher(), Empty(), tmp_path, SECTION)


def test_damaged_folders_are_named(done: Path, tmp_path: Path, images: ImageSource) -> None:
    with pytest.raises(DataError, match="no pseudo-labels here"):
        open_labels(tmp_path / "nothing")
    for number, (change, message) in enumerate(
        [
            (lambda d: (d / "index.json").unlink(), "no finished pseudo-labels"),
            (lambda d: next((d / "shards").glob("*.tar")).unlink(), "missing"),
            (lambda d: next((d / "shards").glob("*.tar")).write_bytes(b"short"), "5 bytes instead of"),
            (lambda d: (d / "shards/000001.json").write_text("{"), "not a shard's manifest"),
        ]
    ):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(done, copy)
        change(copy)
        with pytest.raises(DataError, match=message):
            open_labels(copy)


def test_a_flipped_bit_is_found(done: Path) -> None:
    path = next((done / "shards").glob("*.tar"))
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="changed since it was written"):
        check_folder(done)


def test_labels_find_their_images_again_unless_these_have_changed(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 5)
    label_images(BrightTeacher(), open_images(folder), tmp_path / "labels", SECTION)
    labels = open_labels(tmp_path / "labels")
    assert images_of(labels).key(labels.number(3)) == "p003.png"
    (folder / "p002.png").rename(folder / "q.png")
    with pytest.raises(DataError, match="not the 5 images that were labelled"):
        images_of(labels)


def test_large_maps_are_shrunk_to_the_longest_side_asked_for(images: ImageSource, tmp_path: Path) -> None:
    label_images(BrightTeacher(), images, tmp_path, SECTION.model_copy(update={"max_side": 14}))
    found = open_labels(tmp_path).label(0)
    assert found.shape == (9, 14) and found.min() == 0 and found.max() == 1
