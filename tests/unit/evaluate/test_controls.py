"""The scorer's controls catch the bugs they were made for."""

from __future__ import annotations

from pathlib import Path

import pytest

from datk.depth.io_spec import DepthKind
from datk.evaluate.benchmarks import controls, pairs
from datk.evaluate.benchmarks.controls import FieldRunner, self_test
from datk.evaluate.benchmarks.da2k import load
from datk.evaluate.benchmarks.pairs import BenchResult, PairSet, PointPair, score_pairs

from .conftest import edit


def test_the_scorer_passes_its_own_controls(da2k: Path) -> None:
    assert len(self_test(load(da2k))) == 5


def test_lenient_ties_are_caught(da2k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pairs, "judge_pair", lambda a, b, kind: "1" if (a >= b) == (kind.larger_is == "nearer") else "0"
    )
    with pytest.raises(RuntimeError, match="constant map scores 0"):
        self_test(load(da2k))


def test_always_answering_the_first_point_is_caught(da2k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "judge_pair", lambda a, b, kind: "t" if a == b else "1")
    with pytest.raises(RuntimeError, match="reversed answers score the complement"):
        self_test(load(da2k))


def test_a_forgotten_sign_of_metric_depth_is_caught(da2k: Path) -> None:
    def forgetful(runner: FieldRunner, those: PairSet) -> BenchResult:
        runner.depth_kind = DepthKind.DISPARITY_AFFINE_INVARIANT
        return score_pairs(runner, those)

    with pytest.raises(RuntimeError, match="metric depth reverses the sign"):
        self_test(load(da2k), score=forgetful)


def test_points_read_as_column_row_are_caught(da2k: Path) -> None:
    def transposed(runner: FieldRunner, those: PairSet) -> BenchResult:
        images = tuple(
            pairs.PairImage(i.path, i.scene, tuple(PointPair(p.nearer[::-1], p.farther[::-1]) for p in i.pairs))
            for i in those.images
        )
        return score_pairs(runner, PairSet(name=those.name, root=those.root, images=images))

    lower_but_further_left = {"point1": [50, 10], "point2": [5, 40], "closer_point": "point1"}
    edit(da2k, lambda a: a["images/aerial/c.jpg"].append(lower_but_further_left))
    with pytest.raises(RuntimeError, match=r"points are read as \[row, column\]"):
        self_test(load(da2k), score=transposed)


def test_ignoring_closer_point_is_caught(da2k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = controls.parse_image
    monkeypatch.setattr(
        controls,
        "parse_image",
        lambda key, entries, problems: original(key, [{**e, "closer_point": "point1"} for e in entries], problems),
    )
    with pytest.raises(RuntimeError, match="order of the two points"):
        self_test(load(da2k))
