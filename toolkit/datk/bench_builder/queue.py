"""Which pair a person sees next."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass

from datk.bench_builder.database import Database
from datk.bench_builder.voting import Choice, Point

LEASE_S = 600.0
"""How long a shown pair is kept for the person it is shown to."""


@dataclass(frozen=True, kw_only=True)
class QueuedPair:
    """One pair to look at. Points are (row, column) of the original image; nothing of others' answers is in it."""

    id: int
    queue: str
    image_id: int
    scene: str
    height: int
    width: int
    first: Point
    second: Point


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What the page shows one person."""

    pair: QueuedPair | None
    """None when nothing is left for this person."""
    upcoming: QueuedPair | None
    """Likely next, so that its photograph can be loaded meanwhile."""
    done: int
    """Pairs this person has answered."""
    left: int
    """Pairs still waiting for this person, this one included."""
    last_answer_id: int | None
    """What undo would take back."""


_ELIGIBLE = """
SELECT pair.*, image.scene, image.height, image.width,
    (SELECT count(*) FROM answer a WHERE a.pair_id = pair.id AND a.undone_at IS NULL) AS answers,
    (SELECT count(*) FROM lease l WHERE l.pair_id = pair.id AND l.annotator_id <> :me AND l.until > :now
        AND NOT EXISTS (SELECT 1 FROM answer a WHERE a.pair_id = l.pair_id AND a.annotator_id = l.annotator_id
            AND a.undone_at IS NULL)) AS held
FROM pair JOIN image ON image.id = pair.image_id
WHERE pair.withdrawn_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM answer a WHERE a.pair_id = pair.id AND a.undone_at IS NULL
        AND (a.annotator_id = :me OR a.choice = 'bad'))
    AND coalesce((SELECT choice FROM answer a WHERE a.pair_id = pair.id AND a.undone_at IS NULL
        ORDER BY a.id LIMIT 1), '') <> 'unsure'
    AND answers < :wanted AND answers + held < :wanted
ORDER BY pair.queue = 'easy', pair.image_id, pair.id
"""
"""Disputed and hand-picked pairs first, picture by picture, so that a photograph is loaded once. Agrees with
standing(): OPEN and IN_CHECK pairs are eligible, decided ones are not."""


def next_turn(db: Database, annotator_id: int, *, checkers: int, show: int | None = None) -> Turn:
    """The next pair for this person, which is kept for them for LEASE_S.

    Never a pair they answered, one that is decided, or one that enough others are looking at. show: a pair to show
    instead if it is eligible, for example the one whose answer was just taken back.
    """
    with db.writing() as tx:
        values = {"me": annotator_id, "now": time.time(), "wanted": checkers + 1}
        rows = tx.execute(_ELIGIBLE, values).fetchall()
        if show is not None:
            rows.sort(key=lambda row: row["id"] != show)
        tx.execute("DELETE FROM lease WHERE annotator_id = ? OR until < ?", (annotator_id, time.time()))
        if rows:
            tx.execute("INSERT INTO lease VALUES (?, ?, ?)", (rows[0]["id"], annotator_id, time.time() + LEASE_S))
        done, last = tx.execute(
            "SELECT count(*), max(id) FROM answer WHERE annotator_id = ? AND undone_at IS NULL", (annotator_id,)
        ).fetchone()
    return Turn(
        pair=_queued(rows[0]) if rows else None,
        upcoming=_queued(rows[1]) if len(rows) > 1 else None,
        done=done,
        left=len(rows),
        last_answer_id=last,
    )


@dataclass(frozen=True, kw_only=True)
class AnsweredPair:
    """One pair with everything people and experts said of it."""

    id: int
    queue: str
    path: str
    scene: str
    first: Point
    second: Point
    ratio: float | None
    """Predicted depth ratio; None for hand-picked pairs, inf for sky."""
    votes: dict[str, Choice]
    answers: tuple[tuple[str, Choice], ...]
    """(annotator, choice) in the order given; undone answers are not in it."""
    seconds: tuple[float, ...]
    """Time each answer took on the page, where it was told."""


def all_pairs(db: Database) -> list[AnsweredPair]:
    """Every pair that was not withdrawn, by image path and id."""
    with db.reading() as tx:
        rows = tx.execute(
            "SELECT pair.*, image.path, image.scene FROM pair JOIN image ON image.id = pair.image_id "
            "WHERE withdrawn_at IS NULL ORDER BY image.path, pair.id"
        ).fetchall()
        answers: dict[int, list[sqlite3.Row]] = {}
        for row in tx.execute(
            "SELECT answer.*, annotator.name FROM answer JOIN annotator ON annotator.id = answer.annotator_id "
            "WHERE undone_at IS NULL ORDER BY answer.id"
        ):
            answers.setdefault(row["pair_id"], []).append(row)
    return [_answered(row, answers.get(row["id"], [])) for row in rows]


def _queued(row: sqlite3.Row) -> QueuedPair:
    first, second = _points(row)
    names = ("id", "queue", "image_id", "scene", "height", "width")
    return QueuedPair(first=first, second=second, **{name: row[name] for name in names})


def _answered(row: sqlite3.Row, answers: list[sqlite3.Row]) -> AnsweredPair:
    first, second = _points(row)
    return AnsweredPair(
        id=row["id"],
        queue=row["queue"],
        path=row["path"],
        scene=row["scene"],
        first=first,
        second=second,
        ratio=row["ratio"],
        votes={expert: Choice(choice) for expert, choice in json.loads(row["votes"]).items()},
        answers=tuple((a["name"], Choice(a["choice"])) for a in answers),
        seconds=tuple(a["seconds"] for a in answers if a["seconds"] is not None),
    )


def _points(row: sqlite3.Row) -> tuple[Point, Point]:
    return (row["row1"], row["column1"]), (row["row2"], row["column2"])
