"""`datk bench stats`: scene shares, how hard the pairs are, how far people agree, pictures that look alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from statistics import median

import numpy as np
from pydantic import BaseModel, ConfigDict

from datk.bench_builder.agreement import cohen_kappa, fleiss_kappa
from datk.bench_builder.database import Database
from datk.bench_builder.pictures import Picture, pictures
from datk.bench_builder.plan import Plan
from datk.bench_builder.queue import AnsweredPair, all_pairs
from datk.bench_builder.standing import SIDES, Standing, standing
from datk.data.phash import distances
from datk.evaluate.statistics import wilson_interval

DUPLICATE_BITS = 8
"""Of 64: pictures whose perceptual hashes differ in no more bits are named as near-duplicates."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SceneStats(_Record):
    """One scenario."""

    target_share: float
    images: int
    """Registered pictures."""
    image_share: float
    pairs: dict[Standing, int]


class ExpertStats(_Record):
    """One expert against the accepted answers of the pairs it voted on. Disputed pairs only: a hard choice of pairs."""

    right: int
    n: int
    low: float
    high: float
    """95 % Wilson interval of right / n."""


class TwoPeople(_Record):
    """Two annotators on the pairs both answered."""

    people: tuple[str, str]
    n: int
    same: int
    kappa: float | None


class Stats(_Record):
    """What `datk bench stats --json` prints."""

    name: str
    scenes: dict[str, SceneStats]
    pairs: dict[Standing, int]
    queues: dict[str, int]
    draws: dict[str, int]
    """Over all pictures: drawn, near (ratio too small), easy (unanimous), disputed."""
    splits: dict[str, int]
    """How the experts split over queued pairs, for example "3:1"; undecided experts are counted apart, "2:1+1"."""
    experts: dict[str, ExpertStats]
    answers: dict[str, int]
    """Answers by person."""
    choices: dict[str, int]
    seconds_per_answer_median: float | None
    first_is_closer: tuple[int, int]
    """(accepted pairs whose point A is closer, accepted pairs): far from half would favour one key."""
    two_people: tuple[TwoPeople, ...]
    fleiss_kappa: float | None
    fleiss_n: int
    """Pairs with author and all checkers; their first checkers + 1 answers count."""
    near_duplicates: tuple[tuple[str, str, int], ...]
    """(picture, picture, differing bits)."""


def stats(db: Database, plan: Plan) -> Stats:
    """All figures of a benchmark under construction, from its database."""
    pairs, shots = all_pairs(db), pictures(db)
    where = {p.id: standing([c for _, c in p.answers], checkers=plan.checkers) for p in pairs}
    whole = [[c for _, c in p.answers[: plan.checkers + 1]] for p in pairs if len(p.answers) > plan.checkers]
    accepted = [p for p in pairs if where[p.id] is Standing.ACCEPTED]
    seconds = [s for p in pairs for s in p.seconds]
    with db.reading() as tx:
        row = tx.execute(
            "SELECT coalesce(sum(drawn), 0) AS drawn, coalesce(sum(near), 0) AS near, coalesce(sum(easy), 0) AS easy, "
            "coalesce(sum(disputed), 0) AS disputed FROM drawn"
        ).fetchone()
    return Stats(
        name=plan.name,
        scenes={
            name: SceneStats(
                target_share=scene.share,
                images=sum(s.scene == name for s in shots),
                image_share=sum(s.scene == name for s in shots) / len(shots) if shots else 0.0,
                pairs=_counted(where[p.id] for p in pairs if p.scene == name),
            )
            for name, scene in plan.scenes.items()
        },
        pairs=_counted(where.values()),
        queues=dict(Counter(p.queue for p in pairs)),
        draws=dict(row),
        splits=dict(Counter(_split(p) for p in pairs if p.votes).most_common()),
        experts=_experts(accepted),
        answers=dict(Counter(name for p in pairs for name, _ in p.answers).most_common()),
        choices=dict(Counter(c.value for p in pairs for _, c in p.answers).most_common()),
        seconds_per_answer_median=median(seconds) if seconds else None,
        first_is_closer=(sum(p.answers[0][1] is SIDES[0] for p in accepted), len(accepted)),
        two_people=_two_people(pairs),
        fleiss_kappa=fleiss_kappa(whole) if plan.checkers else None,
        fleiss_n=len(whole),
        near_duplicates=near_duplicates(shots),
    )


def near_duplicates(shots: Sequence[Picture], *, bits: int = DUPLICATE_BITS) -> tuple[tuple[str, str, int], ...]:
    """Pairs of pictures whose perceptual hashes differ in at most `bits` of 64, closest first.

    Finds resized, recompressed and lightly edited copies; not crops or mirror images.
    """
    hashes = np.array([s.phash for s in shots], np.uint64)
    found = []
    for i, shot in enumerate(shots):
        apart = distances(shot.phash, hashes[i + 1 :])
        found += [(shot.path, shots[i + 1 + int(k)].path, int(apart[k])) for k in np.flatnonzero(apart <= bits)]
    return tuple(sorted(found, key=lambda f: f[2]))


def _counted(standings: object) -> dict[Standing, int]:
    counts = Counter(standings)  # type: ignore[call-overload]
    return {s: counts[s] for s in Standing if counts[s]}


def _split(pair: AnsweredPair) -> str:
    sides = sorted((sum(v is side for v in pair.votes.values()) for side in SIDES), reverse=True)
    undecided = len(pair.votes) - sum(sides)
    return f"{sides[0]}:{sides[1]}" + (f"+{undecided}" if undecided else "")


def _experts(accepted: Sequence[AnsweredPair]) -> dict[str, ExpertStats]:
    judged = [p for p in accepted if p.queue == "disputed"]
    out = {}
    for name in sorted({e for p in judged for e in p.votes}):
        votes = [p.votes[name] is p.answers[0][1] for p in judged if name in p.votes]
        low, high = wilson_interval(sum(votes), len(votes))
        out[name] = ExpertStats(right=sum(votes), n=len(votes), low=low, high=high)
    return out


def _two_people(pairs: Sequence[AnsweredPair]) -> tuple[TwoPeople, ...]:
    people = sorted({name for p in pairs for name, _ in p.answers})
    by_person = [dict(p.answers) for p in pairs]
    out = []
    for one, other in combinations(people, 2):
        both = [(given[one], given[other]) for given in by_person if one in given and other in given]
        if both:
            same = sum(a is b for a, b in both)
            out.append(TwoPeople(people=(one, other), n=len(both), same=same, kappa=cohen_kappa(both)))
    return tuple(out)
