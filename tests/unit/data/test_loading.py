"""Loading ahead: the order of a plain loop, bad files listed and replaced, nothing lost, nothing hidden."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from datk.data.dataset import AdaptedDataset, open_dataset
from datk.data.loading import Loader
from datk.data.quarantine import Quarantine, QuarantiningSource, default_limit
from datk.errors import DataError, EnvironmentLacks
from datk.measure.phases import phase, take
from tests.unit.data.layouts import WRITERS, save_picture, save_png16


def many(root: Path, count: int) -> AdaptedDataset:
    base = root / "Scene01/clone/frames"
    for i in range(count):
        save_picture(base / f"rgb/Camera_0/rgb_{i:05d}.jpg", i)
        save_png16(base / f"depth/Camera_0/depth_{i:05d}.png", np.full((24, 32), 100 + i))
    return open_dataset("vkitti2", root)


def number_of(dataset: AdaptedDataset, index: int) -> int:
    """Which frame a sample really is, by its depth."""
    depth_m = dataset.read(index).depth_m
    assert depth_m is not None
    return round(float(depth_m[0, 0]) * 100) - 100


def guarded(dataset: AdaptedDataset, listing: Path, limit: int = 100) -> QuarantiningSource[int]:
    quarantine = Quarantine(listing, limit=limit)
    return QuarantiningSource(partial(number_of, dataset), count=len(dataset), key=dataset.key, quarantine=quarantine)


def spoil(dataset: AdaptedDataset, *indices: int) -> None:
    for index in indices:
        path = dataset.items[index].depth
        path.write_bytes(path.read_bytes()[:-30])


def slow_square(number: int) -> int:
    time.sleep(0.002 * (number % 3))
    if number == 7:
        raise DataError("seven is bad", hint="take eight")
    return number * number


# --- order, errors, measures -----------------------------------------------------------------


@pytest.mark.parametrize(("workers", "how"), [(0, "threads"), (1, "threads"), (3, "threads"), (1, "processes")])
def test_the_order_is_that_of_a_plain_loop_and_an_error_comes_at_its_place(
    workers: int, how: Literal["threads", "processes"]
) -> None:
    loader = Loader(slow_square, start=2, stop=12, workers=workers, how=how)
    seen: list[int] = []
    with pytest.raises(DataError, match="seven is bad") as caught:
        for value in loader:
            seen.append(value)
    assert seen == [4, 9, 16, 25, 36]
    assert caught.value.hint == "take eight"
    assert sum(r.items for r in loader.reports) == 6
    assert all(r.busy_s > 0 and r.items_per_s > 0 for r in loader.reports)
    assert len(loader.reports) <= max(1, workers)


def test_no_more_is_made_ahead_than_was_allowed() -> None:
    made: list[int] = []
    lock = threading.Lock()

    def make(number: int) -> int:
        with lock:
            made.append(number)
        return number

    loader = iter(Loader(make, start=0, stop=100, workers=2, ahead=4))
    assert next(loader) == 0
    time.sleep(0.05)
    assert len(made) <= 5
    loader.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("load")], "no thread outlives the loader"


def _killed(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_worker_process_is_told_as_what_it_is() -> None:
    with pytest.raises(EnvironmentLacks, match="ran out of memory"):
        list(Loader(_killed, start=0, stop=6, workers=1, how="processes"))


def test_each_worker_tells_what_it_spent_its_time_on(tmp_path: Path) -> None:
    dataset = many(tmp_path, 12)

    def make(number: int) -> int:
        sample = dataset.read(number)
        with phase("resize"):
            time.sleep(0.003)
        return sample.image.size

    loader = Loader(make, start=0, stop=12, workers=2)
    assert len(list(loader)) == 12
    for report in loader.reports:
        assert set(report.phases_s) == {"read", "decode", "resize"}
        assert report.phases_s["resize"] >= 0.003 * report.items
        assert sum(report.phases_s.values()) <= report.busy_s
    assert loader.waited_s > 0


def test_phases_do_not_count_time_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("datk.measure.phases.time.perf_counter", lambda: now[0])
    take()
    with phase("decode"):
        now[0] += 1
        with phase("read"):
            now[0] += 10
        now[0] += 100
    with phase("read"):
        now[0] += 1000
    assert take() == {"decode": 101, "read": 1010}
    assert take() == {}


# --- quarantine ------------------------------------------------------------------------------


def test_bad_files_are_listed_with_reasons_replaced_and_counted(tmp_path: Path) -> None:
    dataset = many(tmp_path / "set", 20)
    spoil(dataset, 3, 11)
    source = guarded(dataset, tmp_path / "quarantine.jsonl")
    loaded = [source.load(i) for i in range(20)]
    assert [v for i, v in enumerate(loaded) if i not in (3, 11)] == [i for i in range(20) if i not in (3, 11)]
    assert loaded[3] not in (3, 11) and loaded[11] not in (3, 11)
    lines = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert {line["key"] for line in lines} == {dataset.key(3), dataset.key(11)}
    assert all("not a readable PNG" in line["reason"] for line in lines)
    assert len(source.quarantine) == 2 == len(lines)


def test_the_replacement_is_the_same_in_another_run_in_any_order_and_after_a_resume(tmp_path: Path) -> None:
    dataset = many(tmp_path / "set", 20)
    spoil(dataset, 3, 11, 12)
    first = guarded(dataset, tmp_path / "a.jsonl")
    forwards = [first.load(i) for i in range(20)]
    backwards = guarded(dataset, tmp_path / "b.jsonl")
    assert [backwards.load(i) for i in reversed(range(20))][::-1] == forwards
    resumed = guarded(dataset, tmp_path / "a.jsonl")
    assert [resumed.load(i) for i in range(20)] == forwards
    threaded = Loader(guarded(dataset, tmp_path / "c.jsonl").load, start=0, stop=20, workers=3)
    assert list(threaded) == forwards
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 3, "listed once, not once a run"


def test_a_listed_file_stays_out_until_its_line_is_deleted(tmp_path: Path) -> None:
    dataset = many(tmp_path / "set", 8)
    whole = dataset.items[2].depth.read_bytes()
    spoil(dataset, 2)
    listing = tmp_path / "q.jsonl"
    replacement = guarded(dataset, listing).load(2)
    dataset.items[2].depth.write_bytes(whole)
    assert guarded(dataset, listing).load(2) == replacement
    listing.write_text("")
    assert guarded(dataset, listing).load(2) == 2


def test_too_many_bad_files_stop_the_run_with_the_list(tmp_path: Path) -> None:
    dataset = many(tmp_path / "set", 10)
    spoil(dataset, 1, 4, 6)
    source = guarded(dataset, tmp_path / "q.jsonl", limit=2)
    with pytest.raises(DataError, match="3 files cannot be read, more than the 2") as caught:
        for i in range(10):
            source.load(i)
    assert "q.jsonl" in str(caught.value.hint)
    assert default_limit(5000) == 100 and default_limit(62_000_000) == 62_000


def test_when_nearly_all_is_bad_it_ends_and_does_not_spin(tmp_path: Path) -> None:
    dataset = many(tmp_path / "set", 3)
    spoil(dataset, 0, 1, 2)
    with pytest.raises(DataError, match="no readable replacement"):
        guarded(dataset, tmp_path / "q.jsonl").load(0)


def test_what_is_missing_here_is_no_bad_file(tmp_path: Path) -> None:
    def read(index: int) -> int:
        raise EnvironmentLacks("reading .hdf5 needs the package h5py")

    source = QuarantiningSource(read, count=5, key=str, quarantine=Quarantine(tmp_path / "q.jsonl", limit=9))
    with pytest.raises(EnvironmentLacks):
        source.load(0)
    assert not (tmp_path / "q.jsonl").exists()


def test_a_line_cut_short_by_a_kill_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"key": "a", "reason": "bad"}\n{"key": "b", "rea')
    quarantine = Quarantine(tmp_path / "q.jsonl", limit=9)
    assert "a" in quarantine and "b" not in quarantine and len(quarantine) == 1


def _list_fifty(path: Path, who: int) -> None:
    quarantine = Quarantine(path, limit=1000)
    for i in range(50):
        quarantine.add(f"{who}/{i}", "bad " * 50)
        quarantine.add("shared", "bad")


def test_several_processes_list_together_without_mixing_lines(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    with multiprocessing.get_context("fork").Pool(3) as pool:
        pool.starmap(_list_fifty, [(path, who) for who in range(3)])
    assert len(Quarantine(path, limit=1000)) == 151
    assert all(json.loads(line)["key"] for line in path.read_text().splitlines())


# --- damage of any kind ----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("name", [n for n in WRITERS if n != "nyuv2"])  # HDF5 is held by hypersim
def test_damaged_bytes_anywhere_give_a_sample_or_a_named_error_never_a_crash(name: str, tmp_path: Path) -> None:
    WRITERS[name].write(tmp_path)
    dataset = open_dataset(name, tmp_path)
    item = dataset.items[0]
    rng = np.random.default_rng(0)
    for path in {item.image, item.depth, *item.extra.values()}:
        whole = path.read_bytes()
        for turn in range(12):
            data = bytearray(whole)
            places = range(min(24, len(data))) if turn < 6 else range(len(data))
            for at in rng.choice(len(places), size=3, replace=False):
                data[places[at]] = int(rng.integers(256))
            path.write_bytes(bytes(data[: rng.integers(1, len(data) + 1)] if turn % 3 == 0 else data))
            try:
                dataset.read(0)
            except DataError as error:
                assert error.message
        path.write_bytes(whole)
    dataset.read(0)
