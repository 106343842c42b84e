"""The Pareto front over model size, resolution bucket and precision, and its picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datk.errors import UsageError
from datk.report.pareto import Point, draw_pareto, front, points_of
from datk.report.summary import summarise

points = st.lists(
    st.builds(
        Point,
        model=st.sampled_from(("small", "base")),
        target=st.just("tflite"),
        precision=st.sampled_from(("fp16", "int8")),
        bucket=st.sampled_from(("252x252", "518x518")),
        cost=st.integers(1, 6).map(float),
        gain=st.integers(50, 56).map(float),
        passed=st.booleans(),
    ),
    max_size=12,
)


def beats(a: Point, b: Point) -> bool:
    return a.cost <= b.cost and a.gain >= b.gain and (a.cost < b.cost or a.gain > b.gain)


@given(points)
def test_the_front_is_what_nothing_that_passed_beats_and_it_covers_everything(found: list[Point]) -> None:
    best, passed = front(found), [p for p in found if p.passed]
    assert all(p.passed for p in best)
    assert not any(beats(other, p) for p in best for other in passed)
    for p in passed:
        assert any(b.cost <= p.cost and b.gain >= p.gain for b in best)
    assert [p.cost for p in best] == sorted({p.cost for p in best})
    assert [p.gain for p in best] == sorted({p.gain for p in best})


@given(points, st.randoms(use_true_random=False))
def test_the_order_of_the_points_changes_nothing(found: list[Point], random) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)
    assert front(shuffled) == front(found)


def test_runs_of_several_sizes_stand_in_one_picture(make_run, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("small", "base")]
    for run in runs:
        (run / "00-recipe.yaml").write_text(f"name: {run.name}\n", encoding="utf-8")
    summaries = [summarise(run) for run in runs]
    sizes, _ = points_of(summaries, "size_bytes", 1e6)
    assert {p.model for p in sizes} == {"small", "base"} and len(sizes) == 12
    assert {p.bucket for p in sizes} == {"56x70"}
    times, timeless = points_of(summaries, "latency_p50_ms", 1.0)
    assert not any(p.target == "coreml" for p in times), "an evaluator's time is nobody's latency"
    assert "base coreml-int8" in timeless
    assert draw_pareto(summaries, tmp_path / "pareto.png") == []
    picture = cv2.imread(str(tmp_path / "pareto.png"))
    assert picture is not None and picture.shape[1] > picture.shape[0] and picture.std() > 5


def test_another_ending_and_a_run_without_figures_are_refused(make_run, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(UsageError, match=r"\.svg"):
        draw_pareto([summarise(run)], tmp_path / "pareto.gif")
    bare = summarise(run).model_copy(update={"artifacts": []})
    with pytest.raises(UsageError, match="nothing to draw"):
        draw_pareto([bare], tmp_path / "pareto.png")
    assert not (tmp_path / "pareto.png").exists()
