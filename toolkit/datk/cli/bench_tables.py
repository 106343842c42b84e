"""Figures of a benchmark under construction, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datk.cli.console import print_table, say

if TYPE_CHECKING:
    from datk.bench_builder.stats import Stats

DUPLICATES_SHOWN = 10


def print_stats(made: Stats) -> None:
    """Tables on stdout, remarks on stderr."""
    _scenes(made)
    _experts(made)
    _people(made)
    if made.near_duplicates:
        shown = made.near_duplicates[:DUPLICATES_SHOWN]
        rows = [[one, other, str(bits)] for one, other, bits in shown]
        print_table("pictures that look alike", ["picture", "picture", "bits of 64 apart"], rows, numeric=(2,))
        if len(shown) < len(made.near_duplicates):
            say(f"and {len(made.near_duplicates) - len(shown)} more, see --json")


def _scenes(made: Stats) -> None:
    standings = list(made.pairs)
    rows = [
        [name, f"{s.target_share:.0%}", f"{s.image_share:.0%}", str(s.images), *_counts(s.pairs, standings)]
        for name, s in made.scenes.items()
    ]
    total = str(sum(s.images for s in made.scenes.values()))
    rows.append(["all", "", "", total, *_counts(made.pairs, standings)])
    columns = ["scene", "planned", "images", "n", *(str(s) for s in standings)]
    print_table(f"{made.name}: images, pairs", columns, rows, numeric=tuple(range(1, len(columns))))


def _counts(pairs: object, standings: object) -> list[str]:
    return [str(pairs.get(s, 0)) for s in standings]  # type: ignore[attr-defined]


def _experts(made: Stats) -> None:
    d = made.draws
    if d["drawn"]:
        say(
            f"{d['drawn']} draws: {d['near'] / d['drawn']:.0%} below the depth ratio, {d['easy'] / d['drawn']:.0%} "
            f"unanimous, {d['disputed'] / d['drawn']:.0%} disputed"
        )
    if made.splits:
        say("experts split " + ", ".join(f"{split} on {n}" for split, n in made.splits.items()))
    rows = [
        [name, f"{e.right / e.n:.1%}", f"[{e.low:.1%}, {e.high:.1%}]", str(e.n)] for name, e in made.experts.items()
    ]
    if rows:
        print_table("experts on accepted disputed pairs", ["expert", "right", "95 %", "pairs"], rows, numeric=(1, 2, 3))


def _people(made: Stats) -> None:
    if not made.answers:
        say("nobody has answered yet")
        return
    rows = [
        [" and ".join(t.people), str(t.n), f"{t.same / t.n:.1%}", "none" if t.kappa is None else f"{t.kappa:.3f}"]
        for t in made.two_people
    ]
    if rows:
        print_table("people", ["two people", "both answered", "same", "Cohen's kappa"], rows, numeric=(1, 2, 3))
    fleiss = "not defined" if made.fleiss_kappa is None else f"{made.fleiss_kappa:.3f}"
    say(f"Fleiss' kappa {fleiss} over {made.fleiss_n} fully checked pairs")
    say("answers: " + ", ".join(f"{n} by {name}" for name, n in made.answers.items()))
    if made.seconds_per_answer_median is not None:
        say(f"median time an answer: {made.seconds_per_answer_median:.1f} s")
    first, n = made.first_is_closer
    if n:
        say(f"point A is the closer one in {first} of {n} accepted pairs")
