"""Which precision to ship: a pure function from figures to one sentence."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from datk.evaluate.verdict_rule import DEFAULT, FLOAT, Choice, Compared, Contestant, best_float, choose
from datk.evaluate.verdict_statistics import Change, Speedup

LOSSY = ("int8", "int8-weights", "lut4")
SIZES = {"fp32": 16e6, "fp16": 8e6}


def change(value: float, *, metric: str = "bench_accuracy", higher: bool = True) -> Change:
    return Change(
        metric=metric, unit="pp", value=value, low=value - 1, high=value + 1, candidate=50 + value, base=50.0, n=1000,
        n_images=40, p=0.5, test="any", higher_is_better=higher,
    )  # fmt: skip


def compared(
    speed: float | None,
    *,
    spread: float = 0.02,
    smaller: float = 1.0,
    pt: float = 0.0,
    dense: float = 0.0,
    f1: float = 0.0,
) -> Compared:
    known = None
    if speed is not None:
        known = Speedup(value=speed, low=speed * (1 - spread), high=speed * (1 + spread), rounds=30)
    return Compared(
        speed=known,
        no_speed="" if known else "an evaluator is no device",
        smaller=smaller,
        accuracy=change(pt),
        dense=change(dense, metric="abs_rel", higher=False),
        edges=change(f1, metric="boundary_f1"),
    )


def two(figures: Compared, *, passed: bool = True) -> Choice:
    """fp16 against int8."""
    contestants = [
        Contestant(precision="fp16", passed=True, size_bytes=8e6),
        Contestant(precision="int8", passed=passed, why_not="worst correlation 0.91 is below 0.95; n", size_bytes=4e6),
    ]
    return choose(contestants, {("int8", "fp16"): figures})


some_figures = st.builds(
    compared,
    st.one_of(st.none(), st.floats(0.2, 5)),
    spread=st.floats(0, 0.5),
    smaller=st.floats(0.3, 8),
    pt=st.floats(-5, 5),
    dense=st.floats(-0.1, 0.1),
    f1=st.floats(-0.2, 0.2),
)


@st.composite
def fields(draw: st.DrawFn) -> tuple[list[Contestant], dict[tuple[str, str], Compared]]:
    names = draw(st.lists(st.sampled_from((*FLOAT, *LOSSY)), min_size=1, unique=True))
    contestants = [
        Contestant(precision=n, passed=draw(st.booleans()), why_not="why", size_bytes=draw(st.floats(1e3, 1e9)))
        for n in names
    ]
    pairs = {(a, b): draw(some_figures) for a in names for b in names if a != b and b in FLOAT}
    return contestants, pairs


@given(fields())
def test_exactly_one_precision_that_passed_its_gates_is_shipped_or_none_when_none_did(field) -> None:
    contestants, pairs = field
    choice = choose(contestants, pairs)
    passed = {c.precision for c in contestants if c.passed}
    assert (choice.ship in passed) if passed else (choice.ship is None)
    assert [d.precision for d in choice.decisions] == [c.precision for c in contestants]
    assert [d.precision for d in choice.decisions if d.status == "ship"] == ([choice.ship] if choice.ship else [])
    assert all(d.status == "rejected" for d in choice.decisions if d.precision not in passed)


@given(fields())
def test_the_sentence_is_one_line_that_begins_with_the_decision_and_names_every_other_precision(field) -> None:
    contestants, pairs = field
    choice = choose(contestants, pairs)
    assert choice.sentence.startswith(f"ship {choice.ship or 'nothing'}")
    assert "\n" not in choice.sentence and "None" not in choice.sentence and "nan" not in choice.sentence
    for d in choice.decisions:
        if d.precision not in (choice.ship, choice.base):
            assert f"; {d.precision} {d.status}: {d.words}" in choice.sentence


@given(fields())
def test_what_is_shipped_in_place_of_float_is_a_proven_gain_without_harm(field) -> None:
    contestants, pairs = field
    choice = choose(contestants, pairs)
    if choice.base is None or choice.ship in FLOAT:
        return
    figures = pairs[choice.ship, choice.base]
    assert figures.speed is not None
    assert figures.speed.low >= DEFAULT.min_speedup or (
        figures.smaller >= DEFAULT.min_shrink and figures.speed.low >= DEFAULT.not_slower
    )
    assert figures.accuracy.value >= -DEFAULT.max_loss_pp
    assert figures.dense.value <= DEFAULT.max_error_rise and figures.edges.value >= -DEFAULT.max_edge_loss


@given(some_figures, st.floats(1, 3), st.floats(0, 2), st.floats(1, 2))
def test_a_faster_smaller_or_more_accurate_one_is_never_dropped_for_it(figures, faster, points, shrink) -> None:
    if two(figures).ship != "int8":
        return
    speed = Speedup(
        value=figures.speed.value * faster, low=figures.speed.low * faster, high=figures.speed.high * faster, rounds=30
    )
    better = figures.model_copy(
        update={
            "speed": speed,
            "smaller": figures.smaller * shrink,
            "accuracy": change(figures.accuracy.value + points),
        }
    )
    assert two(better).ship == "int8"


@given(fields())
def test_what_could_not_be_run_is_neither_shipped_nor_rejected_and_changes_nothing_for_the_others(field) -> None:
    contestants, pairs = field
    failed = [c for c in contestants if not c.passed]
    unseen = [c if c.passed else c.model_copy(update={"not_run": "no GPU"}) for c in contestants]
    before, now = choose(contestants, pairs), choose(unseen, pairs)
    assert (now.ship, now.base) == (before.ship, before.base)
    lost = {c.precision for c in failed}
    assert [d for d in now.decisions if d.precision not in lost] == [
        d for d in before.decisions if d.precision not in lost
    ]
    assert all((d.status, d.words) == ("unverified", "no GPU") for d in now.decisions if d.precision in lost)
    named = " and ".join(c.precision for c in failed)
    assert not failed or f"; {named} unverified: no GPU" in now.sentence


@given(some_figures)
def test_a_precision_that_failed_its_gates_is_not_shipped_whatever_its_figures(figures) -> None:
    choice = two(figures, passed=False)
    assert choice.ship == "fp16"
    assert choice.sentence == "ship fp16; int8 rejected: by its gates: worst correlation 0.91 is below 0.95"


@given(some_figures)
def test_the_words_carry_the_figures_and_never_a_better_speed_than_measured(figures) -> None:
    choice = two(figures)
    told = re.search(r"(\d+\.\d\d)x for", choice.sentence)
    if figures.speed is None:
        assert "speed not known: an evaluator is no device" in choice.sentence or "rejected" in choice.sentence
    else:
        assert told is not None and 0 <= figures.speed.value - float(told[1]) < 0.0101
    points = re.search(r"for (-?\+?\d+\.\d) pt", choice.sentence)
    assert points is not None and abs(float(points[1]) - figures.accuracy.value) < 0.051


@given(st.floats(0.2, 5), st.floats(1.01, 4))
def test_the_base_is_the_smaller_float_unless_the_larger_is_surely_faster(speed, size_ratio) -> None:
    contestants = [
        Contestant(precision="fp32", passed=True, size_bytes=8e6 * size_ratio),
        Contestant(precision="fp16", passed=True, size_bytes=8e6),
    ]
    figures = compared(speed)
    base = best_float(contestants, {("fp32", "fp16"): figures, ("fp16", "fp32"): compared(1 / speed)})
    assert base == ("fp32" if figures.speed is not None and figures.speed.low >= DEFAULT.min_speedup else "fp16")


def test_the_sentences_of_the_cases_people_meet() -> None:
    assert two(compared(1.06, pt=-1.2)).sentence == "ship fp16; int8 rejected: 1.06x for -1.2 pt"
    assert two(compared(1.90, smaller=2.0)).sentence == "ship int8: 1.90x for 0.0 pt, 2.00x smaller than fp16"
    assert two(compared(0.50, smaller=2.0)).sentence == "ship fp16; int8 rejected: 0.50x for 0.0 pt, slower"
    assert two(compared(1.02, spread=0.01, smaller=2.0)).ship == "int8", "as fast and half the size"
    assert two(compared(1.02, spread=0.2, smaller=2.0)).sentence == (
        "ship fp16; int8 rejected: 1.02x for 0.0 pt, not sure enough (95 % 0.81 to 1.22)"
    )
    assert two(compared(1.15, spread=0.1)).ship == "fp16", "1.15 whose interval begins at 1.03 is no sure gain"
    assert two(compared(1.9, f1=-0.05)).sentence == "ship fp16; int8 rejected: 1.90x for 0.0 pt, edges -5.0 pt of F1"
    assert two(compared(1.9, dense=0.03)).sentence == "ship fp16; int8 rejected: 1.90x for 0.0 pt, AbsRel +0.030"
    assert two(compared(None, smaller=1.8, pt=0.2)).sentence == (
        "ship fp16; int8 undecided: 1.80x smaller for +0.2 pt, speed not known: an evaluator is no device"
    )


def test_where_no_float_artifact_stands_beside_it_nothing_is_claimed_of_a_gain() -> None:
    alone = choose([Contestant(precision="int8", passed=True, size_bytes=4e6)], {})
    assert alone.ship == "int8" and alone.base is None
    assert alone.sentence.endswith("no float artifact that passed its gates stands beside it to compare with")
    assert choose([Contestant(precision="fp16", passed=True, size_bytes=4e6)], {}).sentence == "ship fp16"
    nothing = choose([Contestant(precision="fp16", passed=False, why_not="constant output", size_bytes=4e6)], {})
    assert nothing.sentence == "ship nothing; fp16 rejected: by its gates: constant output"
