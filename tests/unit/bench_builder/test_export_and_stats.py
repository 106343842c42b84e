"""What was built reads back as DA-2K and its figures are those of a count by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from datk.bench_builder.export import export
from datk.bench_builder.pictures import register
from datk.bench_builder.standing import Standing
from datk.bench_builder.stats import stats
from datk.errors import DataError, UsageError
from datk.evaluate.benchmarks import da2k
from datk.evaluate.benchmarks.controls import self_test


def decided(bench: Any) -> None:
    """Four pairs: two accepted (A, then B closer), one disagreed, one bad."""
    given = {(1, 0): "fff", (1, 1): "sss", (4, 0): "fsf", (5, 0): "b"}
    letters = {"f": "first", "s": "second", "b": "bad"}
    for (image, shift), answers in given.items():
        votes = json.dumps({"one": "first", "two": "second", "three": "unsure"})
        pair = bench.pair(image, shift=shift, ratio=4.0, votes=votes)
        for who, letter in zip(("ann", "bob", "cy"), answers, strict=False):
            bench.answer(who, pair, letters[letter])


def test_an_export_is_a_da2k_that_our_own_loader_reads(bench: Any, tmp_path: Path) -> None:
    decided(bench)
    out = tmp_path / "out"
    done = export(bench.db, bench.images, out, checkers=2)
    assert (done.images, done.pairs, done.left_out) == (1, 2, {Standing.DISAGREED: 1, Standing.BAD: 1})
    value = json.loads((out / "annotations.json").read_text())
    assert value == {
        "images/indoor/a.jpg": [
            {"point1": [10, 20], "point2": [90, 130], "closer_point": "point1"},
            {"point1": [90, 129], "point2": [11, 20], "closer_point": "point1"},
        ]
    }
    pairs = da2k.load(out)
    assert pairs.n_pairs == 2 and pairs.missing == () and pairs.images[0].scene == "indoor"
    assert self_test(pairs)
    assert (out / "images/indoor/a.jpg").read_bytes() == (bench.folder / "images/indoor/a.jpg").read_bytes()
    with (out / "sources.csv").open() as handle:
        (row,) = csv.DictReader(handle)
    assert (row["image"], row["licence"], row["source"]) == ("images/indoor/a.jpg", "CC0-1.0", "the author")


def test_exporting_again_gives_the_same_files(bench: Any, tmp_path: Path) -> None:
    decided(bench)
    out = tmp_path / "out"
    export(bench.db, bench.images, out, checkers=2)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    export(bench.db, bench.images, out, checkers=2)
    assert before == {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_nothing_accepted_or_a_strange_folder_is_refused(bench: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pair is accepted"):
        export(bench.db, bench.images, tmp_path / "out", checkers=2)
    decided(bench)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("x")
    with pytest.raises(UsageError, match=r"thesis\.doc"):
        export(bench.db, bench.images, tmp_path / "out", checkers=2)


@pytest.mark.parametrize("harm", ["changed", "gone", "unlisted"])
def test_a_picture_that_is_not_the_one_marked_stops_the_export(bench: Any, tmp_path: Path, harm: str) -> None:
    decided(bench)
    path = bench.folder / "images/indoor/a.jpg"
    listed = bench.images
    if harm == "changed":
        path.write_bytes(path.read_bytes() + b"x")
    elif harm == "gone":
        path.unlink()
    else:
        listed = listed[1:]
    with pytest.raises(DataError, match=r"a\.jpg"):
        export(bench.db, listed, tmp_path / "out", checkers=2)
    assert not (tmp_path / "out" / "annotations.json").exists()


def test_the_figures_are_those_of_a_count_by_hand(bench: Any) -> None:
    decided(bench)
    made = stats(bench.db, bench.plan)
    assert made.pairs == {Standing.ACCEPTED: 2, Standing.DISAGREED: 1, Standing.BAD: 1}
    assert made.scenes["indoor"].images == 3 and made.scenes["indoor"].image_share == 0.5
    assert made.scenes["indoor"].pairs == {Standing.ACCEPTED: 2}
    assert made.splits == {"1:1+1": 4}
    assert (made.experts["one"].right, made.experts["one"].n) == (1, 2)
    assert made.experts["three"].right == 0
    assert made.first_is_closer == (1, 2)
    assert made.answers == {"ann": 4, "bob": 3, "cy": 3}
    assert made.choices == {"first": 5, "second": 4, "bad": 1}
    assert made.fleiss_n == 3 and made.fleiss_kappa == pytest.approx((7 / 9 - 41 / 81) / (1 - 41 / 81))
    ann_cy = next(t for t in made.two_people if t.people == ("ann", "cy"))
    assert (ann_cy.n, ann_cy.same, ann_cy.kappa) == (3, 3, 1.0)


def test_an_empty_benchmark_has_figures_too(bench: Any) -> None:
    made = stats(bench.db, bench.plan)
    assert made.fleiss_kappa is None and made.pairs == {} and made.seconds_per_answer_median is None
    assert made.model_dump_json()


def test_a_resized_copy_is_named_as_near_duplicate(bench: Any) -> None:
    photo = cv2.imread(str(bench.folder / "images/indoor/a.jpg"))
    copy = bench.folder / "images/outdoor/e.png"
    cv2.imwrite(str(copy), cv2.resize(photo, (90, 70), interpolation=cv2.INTER_AREA))
    register(bench.db, bench.images, progress=lambda done, total: None)
    ((one, other, bits),) = stats(bench.db, bench.plan).near_duplicates
    assert (one, other) == ("images/indoor/a.jpg", "images/outdoor/e.png") and bits <= 8
