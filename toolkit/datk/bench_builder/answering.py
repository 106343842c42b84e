"""Answers, taken back answers and people's own pairs. Each carries a token: sent twice, it counts once."""

from __future__ import annotations

import hashlib
import sqlite3

from datk.bench_builder.database import Database, now
from datk.bench_builder.standing import SIDES
from datk.bench_builder.voting import Choice, Point
from datk.errors import UsageError


class Refused(UsageError):
    """An answer or a pair that cannot be taken as it is; the page shows the message and goes on."""


def save_answer(
    db: Database, *, annotator_id: int, pair_id: int, choice: Choice, token: str, seconds: float | None = None
) -> int:
    """Save one person's answer to one pair; returns its id. It is on disk when this returns.

    The same token again returns the same id and saves nothing: a client that got no reply may send it again.
    Raises Refused when the pair is gone, this person has answered it, or the token stands for another answer.
    """
    with db.writing() as tx:
        known = tx.execute("SELECT * FROM answer WHERE token = ?", (token,)).fetchone()
        if known is not None:
            if (known["annotator_id"], known["pair_id"], known["choice"]) != (annotator_id, pair_id, choice):
                raise Refused("this token stands for another answer")
            return int(known["id"])
        pair = tx.execute("SELECT 1 FROM pair WHERE id = ? AND withdrawn_at IS NULL", (pair_id,)).fetchone()
        if pair is None:
            raise Refused(f"pair {pair_id} is not there any more")
        return _insert_answer(tx, annotator_id, pair_id, choice, token, seconds)


def undo_answer(db: Database, *, annotator_id: int, answer_id: int) -> int:
    """Take back this person's own answer; returns the pair's id. Taken back twice is taken back once.

    A pair the person had added goes with it unless somebody has answered it. The old answer stays in the file,
    marked. Raises Refused for an answer of somebody else.
    """
    with db.writing() as tx:
        row = tx.execute(
            "SELECT answer.*, pair.author_id FROM answer JOIN pair ON pair.id = answer.pair_id "
            "WHERE answer.id = ? AND annotator_id = ?",
            (answer_id, annotator_id),
        ).fetchone()
        if row is None:
            raise Refused("there is no such answer of yours")
        tx.execute("UPDATE answer SET undone_at = ? WHERE id = ? AND undone_at IS NULL", (now(), answer_id))
        if row["author_id"] == annotator_id:
            tx.execute(
                "UPDATE pair SET withdrawn_at = :now WHERE id = :pair AND withdrawn_at IS NULL AND NOT EXISTS "
                "(SELECT 1 FROM answer WHERE pair_id = :pair AND undone_at IS NULL)",
                {"now": now(), "pair": row["pair_id"]},
            )
        return int(row["pair_id"])


def add_pair(
    db: Database, *, annotator_id: int, image_id: int, first: Point, second: Point, choice: Choice, token: str
) -> int:
    """Save a hand-picked pair with its author's answer; returns the answer's id.

    first, second: (row, column) inside the image, distinct. The token's hash decides which of the two becomes A, so
    that authors who click the nearer point first give nothing away. The same token again returns the same id.
    Raises Refused for points outside, equal points, a choice that names no side, or a pair that is there already.
    """
    if choice not in SIDES:
        raise Refused("a pair of your own needs an answer: A closer or B closer")
    if hashlib.sha256(token.encode()).digest()[0] % 2:
        first, second = second, first
        choice = Choice.SECOND if choice is Choice.FIRST else Choice.FIRST
    with db.writing() as tx:
        known = tx.execute(
            "SELECT answer.id FROM pair JOIN answer ON answer.pair_id = pair.id AND answer.token = pair.token "
            "WHERE pair.token = ? AND pair.author_id = ?",
            (token, annotator_id),
        ).fetchone()
        if known is not None:
            return int(known["id"])
        image = tx.execute("SELECT height, width FROM image WHERE id = ?", (image_id,)).fetchone()
        if image is None:
            raise Refused(f"there is no picture {image_id}")
        for row, column in (first, second):
            if not (0 <= row < image["height"] and 0 <= column < image["width"]):
                raise Refused(f"the point ({row}, {column}) lies outside {image['height']}x{image['width']}")
        if first == second:
            raise Refused("the two points are the same pixel")
        pair_id = insert_pair(
            tx, image_id=image_id, queue="hand", first=first, second=second, author_id=annotator_id, token=token
        )
        if pair_id is None:
            raise Refused("this pair of points is there already")
        return _insert_answer(tx, annotator_id, pair_id, choice, token, None)


def insert_pair(
    tx: sqlite3.Connection,
    *,
    image_id: int,
    queue: str,
    first: Point,
    second: Point,
    ratio: float | None = None,
    votes: str = "{}",
    author_id: int | None = None,
    token: str | None = None,
) -> int | None:
    """Insert a pair unless the image has one of the same two points; its id, or None."""
    done = tx.execute(
        "INSERT INTO pair(image_id, queue, row1, column1, row2, column2, ratio, votes, author_id, token, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (image_id, queue, *first, *second, ratio, votes, author_id, token, now()),
    )
    return done.lastrowid if done.rowcount else None


def _insert_answer(
    tx: sqlite3.Connection, annotator_id: int, pair_id: int, choice: Choice, token: str, seconds: float | None
) -> int:
    done = tx.execute(
        "INSERT INTO answer(pair_id, annotator_id, choice, token, seconds, at) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        (pair_id, annotator_id, choice.value, token, seconds, now()),
    )
    if not done.rowcount or done.lastrowid is None:
        raise Refused("you have answered this pair already")
    tx.execute("DELETE FROM lease WHERE pair_id = ? AND annotator_id = ?", (pair_id, annotator_id))
    return done.lastrowid
