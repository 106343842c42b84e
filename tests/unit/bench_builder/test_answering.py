"""Answers count once, are taken back whole, and reach exactly author and checkers."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from datk.bench_builder.answering import Refused, add_pair, undo_answer
from datk.bench_builder.database import Database
from datk.bench_builder.queue import all_pairs
from datk.bench_builder.standing import Standing, standing
from datk.bench_builder.voting import Choice
from datk.errors import DataError


def answers(db: Database) -> int:
    with db.reading() as tx:
        return int(tx.execute("SELECT count(*) FROM answer WHERE undone_at IS NULL").fetchone()[0])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "open"),
        ("f", "in check"),
        ("ff", "in check"),
        ("fff", "accepted"),
        ("sss", "accepted"),
        ("fsf", "disagreed"),
        ("ffu", "disagreed"),
        ("u", "skipped"),
        ("b", "bad"),
        ("ffb", "bad"),
        ("fffs", "accepted"),
    ],
)
def test_author_and_two_checkers_decide(given: str, expected: str) -> None:
    letters = {"f": Choice.FIRST, "s": Choice.SECOND, "u": Choice.UNSURE, "b": Choice.BAD}
    assert standing([letters[g] for g in given], checkers=2) == expected


@pytest.mark.parametrize(("checkers", "expected"), [(0, Standing.ACCEPTED), (1, Standing.IN_CHECK)])
def test_a_small_team_may_ask_for_fewer_checkers(checkers: int, expected: Standing) -> None:
    assert standing([Choice.FIRST], checkers=checkers) is expected


def test_an_answer_sent_twice_counts_once(bench: Any) -> None:
    pair = bench.pair()
    assert bench.answer("ann", pair, "first", token="t") == bench.answer("ann", pair, "first", token="t")
    assert answers(bench.db) == 1


def test_a_token_of_another_answer_is_refused(bench: Any) -> None:
    one, other = bench.pair(), bench.pair(shift=1)
    bench.answer("ann", one, "first", token="t")
    for who, pair, choice in (("bob", one, "first"), ("ann", other, "first"), ("ann", one, "second")):
        with pytest.raises(Refused, match="token"):
            bench.answer(who, pair, choice, token="t")
    assert answers(bench.db) == 1


def test_nobody_answers_a_pair_twice(bench: Any) -> None:
    pair = bench.pair()
    bench.answer("ann", pair, "first", token="t1")
    with pytest.raises(Refused, match="already"):
        bench.answer("ann", pair, "second", token="t2")


def test_thirty_threads_with_ten_tokens_save_ten_answers(bench: Any) -> None:
    pairs = [bench.pair(shift=k) for k in range(10)]
    failed: list[Exception] = []

    def work(pair: int) -> None:
        try:
            bench.answer("ann", pair, "first")
        except Exception as error:  # noqa: BLE001 - collected and asserted empty
            failed.append(error)

    threads = [threading.Thread(target=work, args=(pair,)) for pair in pairs * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and answers(bench.db) == 10


def test_undo_takes_back_one_answer_and_undo_twice_the_same(bench: Any) -> None:
    one, other = bench.pair(), bench.pair(shift=1)
    bench.answer("ann", one, "first")
    last = bench.answer("ann", other, "bad")
    for _ in range(2):
        assert undo_answer(bench.db, annotator_id=bench.people["ann"], answer_id=last) == other
    assert answers(bench.db) == 1
    bench.answer("ann", other, "second")
    assert answers(bench.db) == 2


def test_nobody_takes_back_anothers_answer(bench: Any) -> None:
    mine = bench.answer("ann", bench.pair(), "first")
    with pytest.raises(Refused):
        undo_answer(bench.db, annotator_id=bench.people["bob"], answer_id=mine)
    assert answers(bench.db) == 1


def own(bench: Any, token: str = "t", **change: Any) -> int:
    values = {"image_id": 1, "first": (5, 6), "second": (70, 80), "choice": Choice.FIRST, **change}
    return add_pair(bench.db, annotator_id=bench.people["ann"], token=token, **values)


def test_an_own_pair_is_the_authors_first_answer(bench: Any) -> None:
    assert own(bench) == own(bench)
    (pair,) = all_pairs(bench.db)
    assert pair.queue == "hand" and len(pair.answers) == 1
    nearer = pair.first if pair.answers[0][1] is Choice.FIRST else pair.second
    assert nearer == (5, 6)


def test_the_order_of_clicks_does_not_tell_the_answer(bench: Any) -> None:
    for k in range(60):
        own(bench, token=f"t{k}", first=(k, 6))
    first = [p.answers[0][1] is Choice.FIRST for p in all_pairs(bench.db)]
    assert 15 < sum(first) < 45


def test_an_own_pair_taken_back_is_gone_until_somebody_answered(bench: Any) -> None:
    undo_answer(bench.db, annotator_id=bench.people["ann"], answer_id=own(bench))
    assert all_pairs(bench.db) == []
    mine = own(bench, token="again")
    bench.answer("bob", all_pairs(bench.db)[0].id, "first")
    undo_answer(bench.db, annotator_id=bench.people["ann"], answer_id=mine)
    assert len(all_pairs(bench.db)) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"first": (120, 6)}, "outside"),
        ({"second": (5, -1)}, "outside"),
        ({"second": (5, 6)}, "same pixel"),
        ({"choice": Choice.UNSURE}, "needs an answer"),
        ({"image_id": 99}, "no picture 99"),
    ],
)
def test_an_impossible_own_pair_is_refused(bench: Any, change: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        own(bench, **change)
    assert all_pairs(bench.db) == []


def test_the_same_two_points_the_other_way_round_are_one_pair(bench: Any) -> None:
    own(bench)
    with pytest.raises(Refused, match="already"):
        own(bench, token="u", first=(70, 80), second=(5, 6))


def test_three_people_see_a_pair_and_no_fourth(bench: Any) -> None:
    pair = bench.pair()
    for who in ("ann", "bob", "cy"):
        assert bench.turn(who).pair.id == pair
        bench.answer(who, pair, "first")
    assert all(bench.turn(who).pair is None for who in ("ann", "bob", "cy"))
    with bench.db.writing() as tx:
        done = tx.execute("INSERT INTO annotator(name, password_hash, created_at) VALUES ('dee', 'x', '')")
    bench.people["dee"] = done.lastrowid
    assert bench.turn("dee").pair is None


def test_a_pair_that_enough_people_look_at_is_not_shown_to_more(bench: Any) -> None:
    one, other = bench.pair(), bench.pair(shift=1)
    bench.answer("cy", one, "first")
    bench.answer("bob", one, "first")
    assert bench.turn("ann").pair.id == one
    with bench.db.writing() as tx:
        done = tx.execute("INSERT INTO annotator(name, password_hash, created_at) VALUES ('dee', 'x', '')")
    bench.people["dee"] = done.lastrowid
    assert bench.turn("dee").pair.id == other


@pytest.mark.parametrize("choice", ["bad", "unsure"])
def test_a_skipped_or_bad_pair_is_shown_to_nobody_else(bench: Any, choice: str) -> None:
    bench.answer("ann", bench.pair(), choice)
    assert bench.turn("bob").pair is None


def test_a_checker_sees_nothing_of_what_others_said(bench: Any) -> None:
    pair = bench.pair()
    before = bench.turn("bob").pair
    bench.answer("ann", pair, "second")
    assert bench.turn("bob").pair == before


def test_easy_pairs_come_last(bench: Any) -> None:
    easy = bench.pair(queue="easy")
    hard = bench.pair(shift=1)
    turn = bench.turn("ann")
    assert (turn.pair.id, turn.upcoming.id, turn.left) == (hard, easy, 2)


def test_standing_and_queue_agree_on_what_is_left(bench: Any) -> None:
    """The query's conditions against the rule in Python, over every sequence of up to three answers."""
    kinds = ["first", "second", "unsure", "bad"]
    sequences = [[], *([a] for a in kinds), *([a, b] for a in kinds for b in kinds)]
    expected = set()
    for k, sequence in enumerate(sequences):
        pair = bench.pair(shift=k)
        for who, choice in zip(("ann", "bob"), sequence, strict=False):
            bench.answer(who, pair, choice)
        if standing([Choice(c) for c in sequence], checkers=2) in (Standing.OPEN, Standing.IN_CHECK):
            expected.add(pair)
    shown = set()
    while (turn := bench.turn("cy")).pair is not None:
        shown.add(turn.pair.id)
        bench.answer("cy", turn.pair.id, "first")
    assert shown == expected


KILLED = """
import sys
from pathlib import Path
from datk.bench_builder.answering import save_answer
from datk.bench_builder.database import Database
from datk.bench_builder.voting import Choice
db = Database(Path(sys.argv[1]))
for pair in range(1, 10_000):
    save_answer(db, annotator_id=1, pair_id=pair, choice=Choice.FIRST, token=f"t{pair}")
    print(pair, flush=True)
"""


def test_a_writer_killed_in_the_act_loses_no_acknowledged_answer(bench: Any) -> None:
    with bench.db.writing() as tx:
        for k in range(3000):
            tx.execute(
                "INSERT INTO pair(image_id, queue, row1, column1, row2, column2, votes, created_at) "
                "VALUES (1, 'disputed', ?, ?, 0, 0, '{}', '')",
                (1 + k // 100, k % 100),
            )
    writer = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(bench.folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "toolkit")},
    )
    assert writer.stdout is not None
    acknowledged = 0
    while acknowledged < 25:
        acknowledged = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    acknowledged = max([acknowledged, *(int(line) for line in writer.stdout.read().split(b"\n")[:-1])])
    writer.wait()
    writer.stdout.close()
    with Database(bench.folder).reading() as tx:
        assert tx.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        saved = [row[0] for row in tx.execute("SELECT pair_id FROM answer ORDER BY pair_id")]
    assert saved[:acknowledged] == list(range(1, acknowledged + 1))
    assert len(saved) - acknowledged in (0, 1)


def test_the_file_is_for_its_owner_alone_and_keeps_a_log(bench: Any) -> None:
    assert bench.db.path.stat().st_mode & 0o077 == 0
    with bench.db.reading() as tx:
        assert tx.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert tx.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL


def test_a_damaged_or_newer_file_is_refused_by_name(bench: Any, tmp_path: Path) -> None:
    with sqlite3.connect(bench.db.path) as db:
        db.execute("PRAGMA user_version = 9")
    with pytest.raises(DataError, match="version 9"):
        Database(bench.folder)
    (tmp_path / "bench.sqlite3").write_bytes(b"no database at all" * 100)
    with pytest.raises(DataError, match="not a readable SQLite file"):
        Database(tmp_path)
