"""The benchmarks that ship: mini and real4."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from datk.artifact.files import sha256_file, size_bytes
from datk.data.synthetic import SCENE_VERSION, build_scene
from datk.data.synthetic.oracle import cast
from datk.errors import DataError, UsageError
from datk.evaluate.benchmarks import available, get, get_pairs, mini, row_rule
from datk.evaluate.benchmarks.base import Benchmark
from datk.evaluate.benchmarks.controls import FieldRunner, lower_is_nearer
from datk.evaluate.benchmarks.drawing import calm, draw_pairs
from datk.evaluate.benchmarks.pairs import PairSet
from datk.evaluate.benchmarks.row_rule import read_real_scenes

REAL = {"real_motorcycle", "real_aloe", "real_adirondack", "real_arc2017"}


def test_benchmarks_are_found_by_scanning() -> None:
    pairs = {n for n, b in available().items() if isinstance(b, Benchmark)}
    assert {"da2k", "mini", "real4"} <= pairs
    dense = {"kitti_garg", "nyu_raw_eigen", "sintel", "eth3d", "diode_indoor", "moge", "rgbd"}
    assert dense <= set(available()) - pairs
    with pytest.raises(UsageError, match="eth3d is a dense benchmark"):
        get_pairs("eth3d")
    with pytest.raises(UsageError, match="no benchmark named 'da-2k'") as caught:
        get("da-2k")
    assert "did you mean 'da2k'" in (caught.value.hint or "")


def test_mini_bench_is_small_and_complete() -> None:
    pairs = mini.load()
    assert size_bytes(mini.FOLDER) <= 5_000_000
    assert pairs.missing == ()
    assert {i.path for i in pairs.images} == {
        p.relative_to(mini.FOLDER).as_posix() for p in (mini.FOLDER / "images").rglob("*") if p.is_file()
    }


def test_mini_bench_has_many_kinds_of_scene_and_one_point_is_ten_pairs() -> None:
    pairs = mini.load()
    rendered = [i for i in pairs.images if i.scene not in REAL]
    assert pairs.n_pairs == 1000 and len(rendered) == 60
    assert len({i.scene for i in rendered}) >= 10
    assert {i.scene for i in pairs.images} >= REAL


def test_rendered_images_and_pairs_are_of_todays_scene_generator() -> None:
    """Else tests/golden/make_mini_bench.py must be run again. Judged by the ray caster at the annotated points."""
    made = json.loads((mini.FOLDER / "rendered.json").read_text(encoding="utf-8"))
    assert made["scene_version"] == SCENE_VERSION
    height, width = made["size"]
    by_scene = {i.scene: i for i in mini.load().images if i.scene not in REAL}
    for kind in sorted(by_scene)[::5]:
        image = by_scene[kind]
        scene = build_scene(made["seed"], int(Path(image.path).stem))
        assert scene.kind == kind
        depth_m = cast(scene, (height // 4, width // 4), offset=(0.0, 0.0)).depth_m
        at = [tuple(depth_m[row // 4, column // 4] for row, column in (p.nearer, p.farther)) for p in image.pairs]
        assert np.mean([near < far for near, far in at]) >= 0.9, f"{image.path}: {at}"  # a quarter of the resolution


def test_real_scenes_are_the_files_that_were_copied() -> None:
    scenes = json.loads((mini.FOLDER / "real.json").read_text(encoding="utf-8"))["scenes"]
    assert {s["scene"] for s in scenes} == REAL
    for s in scenes:
        assert sha256_file(mini.FOLDER / s["image"]) == s["image_sha256"]
        assert sha256_file(mini.FOLDER / s["ground_truth"]) == s["ground_truth_sha256"]
        assert s["licence"] and s["source"]


def test_mini_pairs_agree_with_the_real_ground_truth() -> None:
    by_path = dict(read_real_scenes(mini.FOLDER))
    seen = 0
    for image in mini.load().images:
        if image.path in by_path:
            inverse, valid = by_path[image.path].inverse_depth()
            for p in image.pairs:
                assert valid[p.nearer] and valid[p.farther]
                assert inverse[p.nearer] >= 1.2 * inverse[p.farther]
                seen += 1
    assert seen == 400


@pytest.fixture(scope="module")
def real4() -> PairSet:
    return get("real4").load(None)


def test_real4_pairs_lie_at_about_the_same_row_and_at_least_1000_a_scene(real4: PairSet) -> None:
    truth = dict(read_real_scenes(real4.root))
    assert {i.scene for i in real4.images} == REAL
    for image in real4.images:
        inverse, valid = truth[image.path].inverse_depth()
        assert len(image.pairs) >= 1000
        for p in image.pairs:
            assert 0 < abs(p.nearer[0] - p.farther[0]) <= 0.02 * inverse.shape[0]
            assert valid[p.nearer] and valid[p.farther] and inverse[p.nearer] >= 1.2 * inverse[p.farther]


def test_real4_row_rule_scores_half_on_its_pairs_and_more_on_all_pairs(real4: PairSet) -> None:
    result = get("real4").score(lower_is_nearer(), real4)
    assert all(s.accuracy == 0.5 for s in result.scenes.values())
    assert result.overall.accuracy == 0.5
    rule = {name: c.overall.accuracy for name, c in result.companions.items()}
    assert rule["lower is nearer: real4"] == 0.5
    assert rule["lower is nearer: all pairs"] == rule["all pairs"] > 0.7


def test_real4_gives_ground_truth_full_marks(real4: PairSet) -> None:
    scenes = iter([sample.inverse_depth()[0] for _, sample in read_real_scenes(real4.root)])
    from datk.depth.io_spec import DepthKind
    from datk.evaluate.benchmarks.pairs import score_pairs

    oracle = FieldRunner("oracle", lambda h, w: next(scenes), DepthKind.DISPARITY_AFFINE_INVARIANT)
    assert score_pairs(oracle, real4).overall.accuracy == 1.0


def test_drawing_repeats_with_its_seed() -> None:
    inverse = np.random.default_rng(0).random((40, 50)).astype(np.float32)
    valid = inverse > 0.1
    draw = lambda seed: draw_pairs(inverse, valid, count=50, seed=seed, min_ratio=1.5)  # noqa: E731
    assert draw(1) == draw(1) != draw(2)


def test_drawing_says_how_many_pairs_there_were() -> None:
    flat = np.ones((20, 20), np.float32)
    with pytest.raises(DataError, match="only 0 of 5 pairs"):
        draw_pairs(flat, flat > 0, count=5, seed=0, min_ratio=1.2)
    with pytest.raises(DataError, match="only 0 of 5 pairs"):
        draw_pairs(flat, flat > 2, count=5, seed=0, min_ratio=1.2)


def test_calm_pixels_have_no_edge_and_no_hole_in_reach() -> None:
    inverse = np.ones((20, 20), np.float32)
    inverse[:, 10:] = 2
    valid = np.ones((20, 20), bool)
    valid[3, 3] = False
    ok = calm(inverse, valid)
    assert ok[15, 5] and not ok[15, 9] and not ok[15, 11] and ok[15, 13]
    assert not ok[4, 4] and not ok[0, 15]


def test_a_broken_scene_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"real\.json: not a readable scene index"):
        row_rule.load(tmp_path)
    shutil.copyfile(mini.FOLDER / "real.json", tmp_path / "real.json")
    with pytest.raises(DataError, match="expected a 16-bit grey PNG"):
        row_rule.load(tmp_path)
