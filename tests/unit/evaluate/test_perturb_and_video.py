"""Robustness variants, mattes and flicker."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from datk.depth.io_spec import DepthKind
from datk.errors import DataError, EnvironmentLacks
from datk.evaluate import perturb
from datk.evaluate.benchmarks import get_pairs
from datk.evaluate.benchmarks.flicker import FlickerBenchmark
from datk.evaluate.benchmarks.mattes import MatteBenchmark
from datk.evaluate.benchmarks.pairs import content_key, score_pairs
from datk.evaluate.benchmarks.source import identity_of

from .conftest import ToyRunner, red

DISPARITY = DepthKind.DISPARITY_AFFINE_INVARIANT


def photo(seed: int = 0) -> np.ndarray:
    return cv2.resize(np.random.default_rng(seed).integers(0, 255, (8, 10, 3), np.uint8), (100, 80))


@pytest.mark.parametrize("name", list(perturb.VARIANTS))
def test_a_variant_is_the_same_every_time_and_depends_on_the_picture(name: str) -> None:
    apply, picture = perturb.VARIANTS[name], photo()
    before = picture.copy()
    one, two = apply(picture), apply(picture.copy())
    assert one.dtype == np.uint8 and one.shape == picture.shape
    assert (one == two).all() and (picture == before).all()
    assert np.abs(one.astype(int) - picture).mean() > 0.3
    assert (apply(photo(1)).astype(int) - photo(1) != one.astype(int) - picture).any()


def test_dark_is_darker_fog_is_flatter_snow_is_speckled_blur_is_smoother() -> None:
    picture = photo()

    def edges(image: np.ndarray) -> float:
        return float(np.abs(np.diff(image.astype(float), axis=1)).mean())

    assert perturb.dark(picture).mean() < 0.5 * picture.mean()
    assert perturb.fog(picture).std() < 0.7 * picture.std()
    flat = np.full((400, 500, 3), 60, np.uint8)
    assert np.quantile(perturb.snow(flat), 0.999) > 150 and np.median(perturb.snow(flat)) < 90
    noise = np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8)
    assert edges(perturb.blur(noise)) < 0.5 * edges(noise)


def test_da2k_variants_have_its_pairs_on_painted_pictures(da2k: Path) -> None:
    plain, dark = get_pairs("da2k").load(da2k), get_pairs("da2k_dark").load(da2k)
    assert dark.images == plain.images and dark.name == "da2k_dark"
    assert content_key(plain, plain.images[0]) != content_key(dark, dark.images[0])
    seen: list[float] = []

    def look(image: np.ndarray) -> np.ndarray:
        seen.append(float(image.mean()))
        return red(image)

    result = score_pairs(ToyRunner(look), dark)
    assert "every image changed first: dark" in result.protocol and "painted by datk" in result.notes[1]
    bright: list[float] = []
    score_pairs(ToyRunner(lambda i: (bright.append(float(i.mean())), red(i))[1]), plain)
    assert max(seen) < 0.6 * min(bright)


def test_boundary_recall_of_mattes_sees_an_object_in_front_only(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "mattes").mkdir()
    matte = np.zeros((28, 42), np.uint8)
    matte[8:20, 10:30] = 255
    for name in ("a", "b", "c"):
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), cv2.merge([matte // 2 + 40] * 3))
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / "mattes" / f"{name}.png"), matte if name == "a" else matte * 0)
    found = MatteBenchmark().load(tmp_path)
    for field, recall in ((red, 1.0), (lambda i: -red(i), 0.0)):
        runner = ToyRunner(field)
        result = found.result(identity_of(runner), [found.score(runner, i) for i in range(2)])
        assert result.figures["as predicted"]["boundary_recall"] == pytest.approx(recall)
    assert result.denominator == "1 of 3 images (2 not scorable)"
    assert "has no matte" in result.not_scored["images/c.png"] and "no border" in result.not_scored["images/b.png"]


def test_flicker_is_what_changes_where_nothing_moves(tmp_path: Path) -> None:
    picture = cv2.resize(photo(3), (42, 28))
    for sequence, moving in (("still", False), ("moving", True)):
        for number in range(4):
            path = tmp_path / sequence / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), np.roll(picture, 9 * number, axis=1) if moving else picture)
    found = FlickerBenchmark().load(tmp_path)
    calls = iter(range(100))

    def trembling(image: np.ndarray) -> np.ndarray:
        ramp = np.linspace(0, 1, image.shape[1])[None].repeat(image.shape[0], 0)
        return ramp + 0.09 * (next(calls) % 2)

    still = found.keys.index("still")
    calm = found.score(ToyRunner(lambda i: np.linspace(0, 1, i.size // 3).reshape(i.shape[:2])), still)
    assert calm.figures["as predicted"]["flicker_percent"] == 0
    figure = found.score(ToyRunner(trembling), still).figures["as predicted"]["flicker_percent"]
    assert 8 < figure < 10  # 0.09 of a range of 0.9 and the tremble itself
    assert "still pixels" in found.score(ToyRunner(red), found.keys.index("moving")).problem
    with pytest.raises(EnvironmentLacks):
        FlickerBenchmark().load(None)
    with pytest.raises(DataError, match="two frames"):
        (tmp_path / "one").mkdir()
        cv2.imwrite(str(tmp_path / "one" / "0.png"), picture)
        FlickerBenchmark().load(tmp_path / "one")
