"""From pictures and experts to a queue of disputed pairs: find key points, read every expert there, draw, vote."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from datk.artifact.files import sha256_json
from datk.bench_builder.answering import insert_pair
from datk.bench_builder.database import Database
from datk.bench_builder.keypoints import KeyPoints, Points
from datk.bench_builder.pictures import Picture, photo_of
from datk.bench_builder.plan import PairRules
from datk.bench_builder.voting import DrawnPair, Draws, Reading, draw
from datk.depth.io_spec import DepthKind
from datk.depth.runner import Runner
from datk.errors import UsageError
from datk.evaluate.benchmarks.source import predict_full_size

PAPERS_EXPERTS = 4
"""Depth Anything V1 and V2, Marigold, GeoWizard."""


class Reporter(Protocol):
    """Tells how far the work is."""

    def stage(self, name: str, title: str, state: str) -> None: ...

    def progress(self, done: int, total: int, what: str = "") -> None: ...


@dataclass(frozen=True, kw_only=True)
class Expert:
    """A model that votes. `key` names the very weights; `open` gives its Runner, one expert at a time."""

    name: str
    key: str
    open: Callable[[], Runner]


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """What a proposal came to, over all pictures looked at."""

    pictures: int
    without_points: tuple[str, ...]
    """Pictures with fewer than two key points."""
    drawn: int
    near: int
    easy: int
    disputed: int
    added: int
    """Pairs new in the queue; the others were there from an earlier call."""


def propose(
    db: Database,
    pictures: Sequence[Picture],
    experts: Sequence[Expert],
    finder: KeyPoints,
    rules: PairRules,
    *,
    seed: int,
    keep_easy: bool,
    reporter: Reporter,
) -> Proposed:
    """Fill the queue with pairs the experts dissent on. Stopped and called again it goes on where it was.

    keep_easy: also queue up to rules.per_image unanimous pairs a picture, to be shown last.
    Key points and readings are kept by picture, method and weights, so a further expert or another seed costs only
    what is new; one expert is open at a time. Draws depend on the seed and on each picture's own bytes alone.
    Raises UsageError for fewer than two experts or two of the same weights, DataError for a changed picture.
    """
    if len(experts) < 2:
        raise UsageError("one expert never dissents", hint=f"name two or more; the paper has {PAPERS_EXPERTS}")
    for one in experts:
        if twins := [e.name for e in experts if e.key == one.key and e is not one]:
            raise UsageError(f"{one.name} and {twins[0]} are the same weights", hint="an expert has one vote")
    _each(pictures, "points", f"find key points ({finder.key})", reporter, lambda p: _find(db, p, finder))
    for expert in experts:
        _read_expert(db, pictures, expert, finder.key, reporter)
    return _draw_all(db, pictures, experts, finder.key, rules, seed=seed, keep_easy=keep_easy, reporter=reporter)


def _each(
    pictures: Sequence[Picture], name: str, title: str, reporter: Reporter, work: Callable[[Picture], None]
) -> None:
    reporter.stage(name, title, "running")
    for done, picture in enumerate(pictures, start=1):
        work(picture)
        reporter.progress(done, len(pictures), picture.path)
    reporter.stage(name, title, "done")


def _find(db: Database, picture: Picture, finder: KeyPoints) -> None:
    if _points(db, picture, finder.key) is not None:
        return
    points = finder.find(photo_of(db, picture)).astype("<i4")
    with db.writing() as tx:
        tx.execute("INSERT INTO key_points VALUES (?, ?, ?)", (picture.id, finder.key, points.tobytes()))


def _points(db: Database, picture: Picture, method: str) -> Points | None:
    with db.reading() as tx:
        row = tx.execute(
            "SELECT points FROM key_points WHERE image_id = ? AND method = ?", (picture.id, method)
        ).fetchone()
    return None if row is None else np.frombuffer(row["points"], "<i4").reshape(-1, 2)


def _read_expert(db: Database, pictures: Sequence[Picture], expert: Expert, method: str, reporter: Reporter) -> None:
    """Predict the pictures this expert has not been read on, and keep its values at their key points."""
    with db.reading() as tx:
        rows = tx.execute("SELECT image_id FROM reading WHERE method = ? AND expert = ?", (method, expert.key))
        known = {row["image_id"] for row in rows}
    left = [p for p in pictures if p.id not in known]
    if not left:
        return
    runner = expert.open()

    def read(picture: Picture) -> None:
        points = _points(db, picture, method)
        assert points is not None
        depth = predict_full_size(runner, photo_of(db, picture))
        values = depth[points[:, 0], points[:, 1]].astype("<f4")
        with db.writing() as tx:
            tx.execute(
                "INSERT INTO reading VALUES (?, ?, ?, ?, ?)",
                (picture.id, method, expert.key, runner.depth_kind.value, values.tobytes()),
            )

    try:
        _each(left, "read", f"read {expert.name}", reporter, read)
    finally:
        runner.close()


def _draw_all(
    db: Database,
    pictures: Sequence[Picture],
    experts: Sequence[Expert],
    method: str,
    rules: PairRules,
    *,
    seed: int,
    keep_easy: bool,
    reporter: Reporter,
) -> Proposed:
    settings = sha256_json([rules.model_dump(), seed, method, [e.key for e in experts], keep_easy])
    total = {"drawn": 0, "near": 0, "easy": 0, "disputed": 0, "added": 0}
    without: list[str] = []

    def one(picture: Picture) -> None:
        points = _points(db, picture, method)
        assert points is not None
        if len(points) < 2:
            without.append(picture.path)
            return
        readings = [_reading(db, picture, e, method) for e in experts]
        own_seed = int(sha256_json([seed, picture.sha256])[:15], 16)
        draws = draw(readings, seed=own_seed, **rules.model_dump())
        added = _save(db, picture, points, draws, settings, easy=rules.per_image if keep_easy else 0)
        counts = {"drawn": draws.drawn, "near": draws.near, "easy": len(draws.easy), "disputed": len(draws.disputed)}
        for name, value in {**counts, "added": added}.items():
            total[name] += value

    _each(pictures, "vote", "draw pairs and vote", reporter, one)
    return Proposed(pictures=len(pictures), without_points=tuple(without), **total)


def _reading(db: Database, picture: Picture, expert: Expert, method: str) -> Reading:
    with db.reading() as tx:
        row = tx.execute(
            "SELECT * FROM reading WHERE image_id = ? AND method = ? AND expert = ?", (picture.id, method, expert.key)
        ).fetchone()
    values = np.frombuffer(row["vals"], "<f4")
    return Reading(expert=expert.name, kind=DepthKind(row["kind"]), values=values)


def _save(db: Database, picture: Picture, points: Points, draws: Draws, settings: str, *, easy: int) -> int:
    """Put one picture's pairs into the queue in one transaction; the number that is new.

    The same settings are never drawn twice; other settings top the queue up to what they ask for on this picture.
    """
    with db.writing() as tx:
        row = tx.execute("SELECT settings FROM drawn WHERE image_id = ?", (picture.id,)).fetchone()
        if row is not None and row["settings"] == settings:
            return 0
        tx.execute(
            "INSERT OR REPLACE INTO drawn VALUES (?, ?, ?, ?, ?, ?)",
            (picture.id, settings, draws.drawn, draws.near, len(draws.easy), len(draws.disputed)),
        )
        queued = tx.execute(
            "SELECT count(*) FROM pair WHERE image_id = ? AND queue = 'disputed' AND withdrawn_at IS NULL",
            (picture.id,),
        ).fetchone()[0]
        kept: list[tuple[str, DrawnPair]] = [("disputed", p) for p in draws.disputed[queued:]]
        kept += [("easy", p) for p in draws.easy[:easy]]
        added = 0
        for queue, pair in kept:
            ballot = pair.ballot
            done = insert_pair(
                tx,
                image_id=picture.id,
                queue=queue,
                first=_point(points, pair.first),
                second=_point(points, pair.second),
                ratio=None if math.isnan(ballot.ratio) else ballot.ratio,
                votes=json.dumps({e: v.value for e, v in ballot.votes.items()}),
            )
            added += done is not None
        return added


def _point(points: Points, index: int) -> tuple[int, int]:
    return int(points[index, 0]), int(points[index, 1])


def as_json(proposed: Proposed) -> dict[str, object]:
    """For machines."""
    return asdict(proposed)
