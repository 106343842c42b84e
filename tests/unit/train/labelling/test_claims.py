"""Leases: one owner at a time, whatever dies, freezes or lies."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datk.errors import DataError
from datk.train.labelling import claims
from datk.train.labelling.claims import Board, LeaseLost, link_once


def board(folder: Path, lease_s: float = 60.0) -> Board:
    folder.mkdir(exist_ok=True)
    return Board(folder, lease_s=lease_s)


def hold_and_die(folder: Path) -> None:
    lease = Board(folder, lease_s=60).take([5])
    assert lease is not None
    os._exit(9)


def test_of_many_who_claim_at_once_one_gets_each_shard(tmp_path: Path) -> None:
    board(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        for shard in range(8):
            won = list(pool.map(lambda _, n=shard: Board(tmp_path, lease_s=60).take([n]), range(16)))
            assert sum(lease is not None for lease in won) == 1
    assert not list(tmp_path.glob(".*")), "nothing temporary is left"


def test_a_held_shard_is_passed_over_and_one_given_back_is_free(tmp_path: Path) -> None:
    mine = board(tmp_path)
    with mine.take([0, 1]) as lease:
        other = Board(tmp_path, lease_s=60).take([0, 1])
        assert (lease.number, other.number) == (0, 1)
    again = Board(tmp_path, lease_s=60).take([0])
    assert again is not None and again.generation == 1


def test_the_shard_of_a_dead_process_of_this_machine_is_free_at_once(tmp_path: Path) -> None:
    board(tmp_path)
    process = multiprocessing.get_context("spawn").Process(target=hold_and_die, args=(tmp_path,))
    process.start()
    process.join()
    lease = Board(tmp_path, lease_s=600).take([5])
    assert lease is not None and lease.generation == 1


def far_away(path: Path) -> None:
    """Make a claim look like another machine's."""
    record = json.loads(path.read_bytes()) | {"host": "elsewhere", "boot": "another", "pid": 1}
    path.write_bytes(json.dumps(record).encode().ljust(claims.RECORD_BYTES))


def test_a_silent_owner_elsewhere_is_waited_for_as_long_as_the_lease_by_our_own_clock(tmp_path: Path) -> None:
    mine = board(tmp_path, lease_s=0.2)
    silent = mine.take([3])
    far_away(tmp_path / "000003.0")
    watcher = Board(tmp_path, lease_s=0.2)
    assert watcher.take([3]) is None, "seen for the first time: its silence begins now"
    assert watcher.take([3]) is None
    time.sleep(0.25)
    taken = watcher.take([3])
    assert taken is not None and silent is not None
    assert silent.lost and not taken.lost
    with pytest.raises(LeaseLost):
        silent.check()


def test_a_living_owner_elsewhere_is_never_taken_over(tmp_path: Path) -> None:
    mine = board(tmp_path, lease_s=0.4)
    watcher = Board(tmp_path, lease_s=0.4)
    with mine.take([3]):
        begun = time.monotonic()
        while time.monotonic() - begun < 1.2:
            assert watcher.take([3]) is None
            time.sleep(0.05)


def test_a_late_heartbeat_of_the_former_owner_leaves_the_new_owners_claim_alone(tmp_path: Path) -> None:
    former = board(tmp_path).take([3])
    (tmp_path / "000003.0").unlink()  # what an operator might do
    taken = Board(tmp_path, lease_s=60).take([3])
    former._write("working")
    assert json.loads((tmp_path / "000003.0").read_bytes())["token"] == taken.token


def test_the_clocks_of_machines_play_no_part(tmp_path: Path) -> None:
    mine = board(tmp_path)
    lease = mine.take([3])
    os.utime(tmp_path / "000003.0", (0, 0))
    assert Board(tmp_path, lease_s=60).take([3]) is None and lease is not None


def test_a_shard_that_kills_its_workers_stops_the_job_by_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(claims, "MAX_DEATHS", 2)
    monkeypatch.setattr(claims, "_is_dead_here", lambda record: True)
    mine = board(tmp_path)
    assert [mine.take([7]).generation for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="shard 7: 2 workers died"):
        mine.take([7])


def test_a_link_whose_answer_was_lost_counts_as_made(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_text("x")
    os.link(source, tmp_path / "b")  # the server did it, the client asks again
    assert link_once(source, tmp_path / "b")
    (tmp_path / "c").write_text("y")
    (tmp_path / "b").unlink()
    assert not link_once(source, tmp_path / "c")


def test_a_file_system_without_hard_links_is_named(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(DataError, match="cannot make a hard link"):
        board(tmp_path).take([1])


def test_progress_counts_what_is_under_way(tmp_path: Path) -> None:
    mine = board(tmp_path)
    lease = mine.take([2])
    lease.done = 7
    lease._write("working")
    assert mine.working(finished=set()) == {2: 7} and mine.working(finished={2}) == {}
    mine.clear()
    assert lease.lost and mine.take([2]) is None and mine.working(finished=()) == {}
