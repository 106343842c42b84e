"""Per-scene figures of a benchmark."""

from __future__ import annotations

from datk.evaluate import benchmarks
from datk.evaluate.benchmarks.controls import lower_is_nearer
from datk.pipeline.scenes import POOLED, scene_figures


def test_every_scene_the_pool_and_the_companions_are_told() -> None:
    bench = benchmarks.get("real4")
    result = bench.score(lower_is_nearer(), bench.load(None))
    figures = scene_figures({"bench": result.model_dump(mode="json")})
    assert next(iter(figures)) == "real4" and len(figures) == 1 + len(result.companions)
    for figure in figures.values():
        assert set(figure) == {*result.scenes, POOLED}
    pooled = figures["real4"][POOLED]
    assert pooled["accuracy_percent"] == 100 * result.overall.accuracy and pooled["n"] == result.overall.n


def test_without_a_benchmark_there_is_nothing_to_tell() -> None:
    assert scene_figures({}) == {}
