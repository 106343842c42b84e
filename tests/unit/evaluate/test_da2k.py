"""DA-2K: the real layout, scored strictly."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from datk.depth.io_spec import DepthKind
from datk.depth.preprocess import resize_output, sample_output
from datk.errors import DataError, EnvironmentLacks
from datk.evaluate.benchmarks import get
from datk.evaluate.benchmarks.controls import FieldRunner, constant_map, lower_is_nearer
from datk.evaluate.benchmarks.da2k import FETCH, load
from datk.evaluate.benchmarks.pairs import judge_pair, score_pairs, swapped

from .conftest import ToyRunner, edit, red

DISPARITY, METRIC = DepthKind.DISPARITY_AFFINE_INVARIANT, DepthKind.DEPTH_METRIC_M
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


def test_da2k_larger_disparity_is_nearer(da2k: Path) -> None:
    result = score_pairs(ToyRunner(red), load(da2k))
    assert result.overall.right == result.overall.n == 6
    assert score_pairs(ToyRunner(lambda i: -red(i)), load(da2k)).overall.right == 0


def test_metric_depth_smaller_is_nearer(da2k: Path) -> None:
    assert score_pairs(ToyRunner(lambda i: 300 - red(i), kind=METRIC), load(da2k)).overall.accuracy == 1.0
    assert score_pairs(ToyRunner(red, kind=METRIC), load(da2k)).overall.accuracy == 0.0


def test_da2k_points_are_row_column_in_original_pixels(da2k: Path) -> None:
    """Only the pixel (row 10, column 70) of the 60x80 picture is near."""

    def spike(height: int, width: int) -> np.ndarray:
        assert (height, width) == (60, 80)
        out = np.zeros((height, width), np.float32)
        out[10, 70] = 1
        return out

    result = score_pairs(FieldRunner("spike", spike, DISPARITY), load(da2k))
    assert result.outcomes == dict.fromkeys(result.outcomes, "1t")


def test_the_map_is_resized_bilinearly_with_aligned_corners_and_read_at_the_pixel(da2k: Path) -> None:
    """Independent of our own resize: torch's interpolate decides what each pair must score."""
    field = np.random.default_rng(0).random((28, 42), dtype=np.float32)
    full = interpolate(torch.from_numpy(field)[None, None], (60, 80), mode="bilinear", align_corners=True)[0, 0]
    pairs = load(da2k)
    result = score_pairs(ToyRunner(lambda _: field), pairs)
    for image in pairs.images:
        expected = "".join("1" if full[p.nearer] > full[p.farther] else "0" for p in image.pairs)
        assert result.outcomes[image.path] == expected


def test_a_copy_of_another_size_says_so(da2k: Path) -> None:
    (da2k / "images" / "indoor" / "b.jpeg").unlink()
    assert "lists 3 images and 6 pairs, 1 images missing" in load(da2k).notes[0]
    assert "1033 images and 2068 pairs" in score_pairs(ToyRunner(red), load(da2k)).notes[0]


def test_a_tie_is_wrong_and_counted(da2k: Path) -> None:
    result = score_pairs(ToyRunner(lambda i: np.full(i.shape[:2], 3.0)), load(da2k))
    assert (result.overall.right, result.overall.n, result.ties) == (0, 6, 6)


def test_nan_is_wrong_and_counted(da2k: Path) -> None:
    result = score_pairs(ToyRunner(lambda i: np.where(red(i) > 120, np.nan, red(i))), load(da2k))
    assert (result.overall.right, result.overall.n, result.not_finite) == (0, 6, 6)


def test_mean_is_weighted_by_pairs_not_by_scenes(da2k: Path) -> None:
    edit(da2k, lambda a: a["images/aerial/c.jpg"].pop())
    result = score_pairs(lower_is_nearer(), load(da2k))
    assert result.scenes["indoor"].accuracy == 0.5 and result.scenes["aerial"].accuracy == 0.0
    assert result.overall.accuracy == pytest.approx(2 / 5)
    assert result.overall.low < 2 / 5 < result.overall.high


def test_a_missing_image_is_named_and_both_denominators_are_given(da2k: Path) -> None:
    (da2k / "images" / "indoor" / "b.jpeg").unlink()
    result = score_pairs(ToyRunner(red), load(da2k))
    assert result.missing_images == ("images/indoor/b.jpeg",)
    assert (result.overall.right, result.overall.n) == (4, 4)
    assert result.n_annotated_pairs == 6 and result.accuracy_of_annotated == pytest.approx(4 / 6)
    assert result.outcomes["images/indoor/b.jpeg"] == "--"


def test_a_point_outside_its_image_is_named_and_not_scored(da2k: Path) -> None:
    def move(a: dict[str, Any]) -> None:
        a["images/aerial/c.jpg"][0]["point1"] = [70, 10]  # [x, y] mixed up

    edit(da2k, move)
    result = score_pairs(ToyRunner(red), load(da2k))
    assert result.points_outside == ("images/aerial/c.jpg: point [70, 10] outside 60x80",)
    assert result.overall.n == 5 and result.accuracy_of_annotated == pytest.approx(5 / 6)


def test_negative_coordinates_do_not_wrap_around(da2k: Path) -> None:
    edit(da2k, lambda a: a["images/aerial/c.jpg"][0].update(point1=[-1, 70]))
    assert score_pairs(ToyRunner(red), load(da2k)).overall.n == 5


def test_every_image_missing_is_an_error(da2k: Path) -> None:
    for path in (da2k / "images").rglob("*.jp*g"):
        path.unlink()
    with pytest.raises(DataError, match="none of the 3 annotated images is there"):
        load(da2k)


def test_images_that_cannot_be_decoded_are_named_and_both_denominators_are_given(da2k: Path) -> None:
    whole = (da2k / "images" / "indoor" / "b.jpeg").read_bytes()
    (da2k / "images" / "indoor" / "a.jpg").write_bytes(b"half a jpeg")
    (da2k / "images" / "indoor" / "b.jpeg").write_bytes(whole[: len(whole) // 2])
    result = score_pairs(ToyRunner(red), load(da2k))
    assert list(result.unreadable_images) == ["images/indoor/a.jpg", "images/indoor/b.jpeg"]
    assert "not a readable picture" in result.unreadable_images["images/indoor/a.jpg"]
    assert "cut short" in result.unreadable_images["images/indoor/b.jpeg"]
    assert (result.overall.right, result.overall.n, result.n_annotated_pairs) == (2, 2, 6)
    assert result.accuracy_of_annotated == pytest.approx(2 / 6)


def test_a_set_without_one_usable_image_is_an_error(da2k: Path) -> None:
    for path in (da2k / "images").rglob("*.jp*g"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 3 annotated images could be scored"):
        score_pairs(ToyRunner(red), load(da2k))


def test_coordinates_the_wrong_way_round_are_suspected_aloud(da2k: Path) -> None:
    edit(da2k, lambda a: a["images/aerial/c.jpg"][0].update(point1=[70, 10]))
    assert "1 of the 1 points outside" in score_pairs(ToyRunner(red), load(da2k)).notes[-1]


def test_the_order_of_an_entrys_keys_is_free(da2k: Path) -> None:
    before = load(da2k).images
    edit(da2k, lambda a: [a.update({k: [dict(reversed(e.items())) for e in v]}) for k, v in list(a.items())])
    assert load(da2k).images == before


def test_odd_pictures_are_scored_and_named(da2k: Path) -> None:
    """Grey, CMYK, 16 bits and EXIF-turned, each written by Pillow; points are pixels of the upright picture."""
    from PIL import Image

    folder = da2k / "images" / "indoor"
    ramp = np.repeat(np.linspace(0, 250, 80).astype(np.uint8)[None], 60, axis=0)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side, to be turned clockwise
    Image.fromarray(np.rot90(np.stack([ramp] * 3, -1))).save(folder / "exif.jpg", exif=exif, quality=98)
    Image.fromarray(ramp).save(folder / "grey.jpg", quality=98)
    Image.fromarray(np.stack([255 - ramp] * 3 + [ramp * 0], -1), mode="CMYK").save(folder / "cmyk.jpg", quality=98)
    Image.fromarray(ramp.astype(np.uint16) * 257).save(folder / "deep.png")
    names = ["exif.jpg", "grey.jpg", "cmyk.jpg", "deep.png"]
    pair = {"point1": [10, 70], "point2": [50, 5], "closer_point": "point1"}
    edit(da2k, lambda a: a.update({f"images/indoor/{n}": [pair] for n in names}))
    result = score_pairs(ToyRunner(red), load(da2k))
    assert {n: result.outcomes[f"images/indoor/{n}"] for n in names} == dict.fromkeys(names, "1")
    said = {n: result.odd_images[f"images/indoor/{n}"] for n in names}
    assert said["exif.jpg"] == "turned upright by EXIF orientation 6" and said["grey.jpg"] == "grey"
    assert said["cmyk.jpg"] == "CMYK" and "16 bits" in said["deep.png"]
    assert set(result.odd_images) == {f"images/indoor/{n}" for n in names}


def test_the_zip_is_scored_as_the_folder_is(da2k: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "DA-2K"), "zip", da2k.parent, "DA-2K"))
    folder, packed = (score_pairs(ToyRunner(red), load(place)) for place in (da2k, archive))
    assert packed == folder
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "DA-2K.zip").write_bytes(archive.read_bytes())
    assert load(tmp_path / "alone").n_pairs == 6


def test_a_damaged_member_of_the_zip_is_named(da2k: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "DA-2K"), "zip", da2k.parent, "DA-2K"))
    data = bytearray(archive.read_bytes())
    at = zipfile.ZipFile(archive).getinfo("DA-2K/images/indoor/a.jpg").header_offset + 90
    data[at : at + 40] = bytes(40)
    archive.write_bytes(data)
    result = score_pairs(ToyRunner(red), load(archive))
    assert "is damaged" in result.unreadable_images["images/indoor/a.jpg"] and result.overall.n == 4
    archive.write_bytes(b"no zip at all")
    with pytest.raises(DataError, match="not a readable zip"):
        load(archive)


def test_values_read_at_points_are_those_of_the_large_map() -> None:
    rng = np.random.default_rng(1)
    small = rng.random((28, 42), dtype=np.float32)
    points = [(int(r), int(c)) for r, c in zip(rng.integers(0, 301, 500), rng.integers(0, 203, 500), strict=True)]
    points += [(0, 0), (300, 202)]
    large = resize_output(small, (301, 203))
    assert (sample_output(small, (301, 203), points) == [large[p] for p in points]).all()
    assert (sample_output(large, (301, 203), points) == [large[p] for p in points]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a["images/aerial/c.jpg"][0].update(point1=[1.5, 2]), r"c\.jpg\[0\]\.point1: \[1.5, 2\] is not"),
        (lambda a: a["images/aerial/c.jpg"][1].pop("point2"), r"c\.jpg\[1\]\.point2: None is not"),
        (lambda a: a["images/aerial/c.jpg"][1].update(closer_point="left"), "'left' is neither"),
        (lambda a: a.update({"images/aerial/c.jpg": []}), "expected a list of pairs"),
        (lambda a: a.update({"../../etc/x.jpg": a["images/aerial/c.jpg"]}), "expected a path such as images/"),
        (lambda a: a.update({"images/aerial/d.jpg": ["x"]}), "expected an object with point1"),
    ],
)
def test_annotations_that_do_not_fit_are_told(da2k: Path, change: Any, message: str) -> None:
    edit(da2k, change)
    with pytest.raises(DataError, match=message):
        load(da2k)


def test_damaged_annotations_are_told(da2k: Path) -> None:
    (da2k / "annotations.json").write_text("[1,", encoding="utf-8")
    with pytest.raises(DataError, match=r"annotations\.json: not JSON"):
        load(da2k)
    (da2k / "annotations.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="expected an object"):
        load(da2k)


def test_the_folder_above_is_accepted(da2k: Path) -> None:
    assert load(da2k.parent).n_pairs == 6


def test_da2k_is_looked_for_in_data_and_its_absence_names_the_fetch(
    tmp_path: Path, da2k: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with pytest.raises(EnvironmentLacks, match=r"DA-2K is not in \./data/da2k") as caught:
        get("da2k").load(None)
    assert caught.value.exit_code == 4
    assert caught.value.hint is not None
    assert FETCH in caught.value.hint and "--bench mini" in caught.value.hint
    (elsewhere / "data").mkdir()
    (elsewhere / "data" / "da2k").symlink_to(da2k)
    assert get("da2k").load(None).n_pairs == 6


def test_a_named_folder_without_the_data_set_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds neither") as caught:
        load(tmp_path)
    assert caught.value.exit_code == 2


def test_swapped_answers_score_the_complement_and_a_constant_map_scores_zero(da2k: Path) -> None:
    pairs = load(da2k)
    runner = lower_is_nearer()
    right = score_pairs(runner, pairs).overall.right
    assert right + score_pairs(runner, swapped(pairs)).overall.right == 6
    assert score_pairs(constant_map(), pairs).overall.right == 0


def test_pairs_written_with_point2_closer_are_read_the_right_way(da2k: Path) -> None:
    before = load(da2k).images

    def turn(a: dict[str, Any]) -> None:
        for pairs in a.values():
            for p in pairs:
                p["point1"], p["point2"], p["closer_point"] = p["point2"], p["point1"], "point2"

    edit(da2k, turn)
    assert load(da2k).images == before


def test_a_result_survives_json(da2k: Path) -> None:
    result = get("da2k").score(ToyRunner(red), load(da2k))
    again = type(result).model_validate(json.loads(result.model_dump_json()))
    assert again == result
    assert "constant map scores 0" in result.controls
    assert "8-bit bucket 28x42" in result.protocol


@given(FINITE, FINITE, st.sampled_from([DISPARITY, METRIC]))
def test_exactly_one_order_of_two_different_values_is_right(a: float, b: float, kind: DepthKind) -> None:
    outcomes = [judge_pair(a, b, kind), judge_pair(b, a, kind)]
    assert sorted(outcomes) == (["t", "t"] if a == b else ["0", "1"])


@given(st.sampled_from([np.nan, np.inf, -np.inf]), FINITE, st.booleans())
def test_a_value_that_is_not_finite_is_never_right(bad: float, good: float, first: bool) -> None:
    values = (bad, good) if first else (good, bad)
    assert judge_pair(*values, DISPARITY) == "n"
