"""Workers killed at random: every image labelled exactly once, and the same bytes as one uninterrupted worker."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from datk.artifact.files import sha256_file
from datk.data.sources import open_images
from datk.errors import EnvironmentLacks
from datk.train.labelling import work as working
from datk.train.labelling.claims import Board
from datk.train.labelling.job import open_job
from datk.train.labelling.shard import label_shard, publish
from datk.train.labelling.work import label_and_publish, run_workers, work
from datk.train.pseudo_label import label_images, start_job
from tests.unit.train.labelling.toys import SECTION, BrightTeacher, open_toy, write_photos

IMAGES = 40
SMALL = SECTION.model_copy(update={"shard_size": 3})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = write_photos(tmp_path_factory.mktemp("sharing") / "photos", IMAGES)
    (found / "p017.png").write_bytes(b"damaged")
    return found


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sharing") / "alone"
    label_images(BrightTeacher(), open_images(folder), out, SMALL)
    return out


def numbers(out: Path) -> list[int]:
    """Every image number that any manifest accounts for."""
    found = []
    for path in (out / "shards").glob("*.json"):
        manifest = json.loads(path.read_text())
        found += [line["number"] for part in ("labels", "quarantined", "kept_out") for line in manifest[part]]
    return sorted(found)


def worker(out: Path, folder: Path, pause_s: float, lease_s: float) -> None:
    teacher, images = open_toy(folder, pause_s)
    work(open_job(out), teacher, images, lease_s=lease_s)


def test_workers_killed_at_random_leave_what_one_worker_leaves(alone: Path, folder: Path, tmp_path: Path) -> None:
    """Four processes at a time; whoever runs is killed at a random moment until ten have died, then two may end."""
    out, rng = tmp_path / "shared", random.Random(0)
    start_job(BrightTeacher(), open_images(folder), out, SMALL)
    context = multiprocessing.get_context("fork")  # a fresh interpreter a worker would take a second each
    running, killed = [], 0
    while killed < 10:
        while len(running) < 4:
            running.append(context.Process(target=worker, args=(out, folder, 0.06, 5.0)))
            running[-1].start()
        time.sleep(rng.uniform(0.01, 0.12))
        victim = running.pop(rng.randrange(len(running)))
        if victim.is_alive():
            os.kill(victim.pid, signal.SIGKILL)
            killed += 1
        victim.join()
        if (out / "index.json").exists():
            break
    for process in running:
        process.join(60)
        assert process.exitcode == 0
    work(open_job(out), BrightTeacher(), open_images(folder))
    assert killed >= 2, "the job was over before enough had died: make the teacher slower"
    assert numbers(out) == list(range(IMAGES))
    assert sha256_file(out) == sha256_file(alone)


def test_a_frozen_worker_that_wakes_up_late_publishes_nothing(alone: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "shared"
    images = open_images(folder)
    job = start_job(BrightTeacher(), images, out, SMALL)
    process = multiprocessing.get_context("fork").Process(target=worker, args=(out, folder, 0.3, 0.5))
    process.start()
    while not list(job.claims.glob("000000.0")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGSTOP)
    work(job, BrightTeacher(), images, lease_s=0.5)
    published = {p.name: p.stat().st_mtime_ns for p in (out / "shards").iterdir()}
    os.kill(process.pid, signal.SIGCONT)
    process.join(30)
    assert process.exitcode == 0, "it finds the job finished"
    assert {p.name: p.stat().st_mtime_ns for p in (out / "shards").iterdir()} == published
    assert sha256_file(out) == sha256_file(alone)


def test_the_first_to_publish_wins_and_the_other_leaves_no_trace(folder: Path, tmp_path: Path) -> None:
    images = open_images(folder)
    job = start_job(BrightTeacher(), images, tmp_path, SMALL)
    one = label_shard(job, 0, images, BrightTeacher(), on_batch=lambda done: None)
    other = label_shard(job, 0, images, BrightTeacher(), on_batch=lambda done: None)
    assert publish(job, 0, one) and not publish(job, 0, other)
    assert sorted(p.suffix for p in (tmp_path / "shards").iterdir()) == [".json", ".tar"]


def test_a_lost_lease_ends_the_work_on_a_shard_before_it_is_published(folder: Path, tmp_path: Path) -> None:
    images = open_images(folder)
    job = start_job(BrightTeacher(), images, tmp_path, SMALL)

    class Overtaken(BrightTeacher):
        def predict(self, batch):
            if self.seen == 0:
                os.link(job.claims / "000000.0", job.claims / "000000.1")
            return super().predict(batch)

    assert label_and_publish(job, 0, images, Overtaken()) == "taken over"
    assert not job.finished() and not list((tmp_path / "shards").iterdir())


def test_a_named_shard_is_labelled_once(folder: Path, tmp_path: Path) -> None:
    images = open_images(folder)
    job = start_job(BrightTeacher(), images, tmp_path, SMALL)
    with Board(job.claims, lease_s=60).take([1]):
        assert label_and_publish(job, 1, images, BrightTeacher()) == "another worker has it"
    assert label_and_publish(job, 1, images, BrightTeacher()) == "labelled"
    assert label_and_publish(job, 1, images, BrightTeacher()) == "finished before"


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])  # spawn: 2 interpreters
def test_two_processes_leave_what_one_leaves(
    alone: Path, folder: Path, tmp_path: Path, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "SPAWN", multiprocessing.get_context(start))
    images, told = open_images(folder), []
    job = start_job(BrightTeacher(), images, tmp_path / "two", SMALL)
    found = run_workers(job, partial(open_toy, folder), 2, progress=lambda done, total: told.append((done, total)))
    assert (found.labels, found.quarantined, found.died) == (IMAGES - 1, 1, ())
    assert sha256_file(tmp_path / "two") == sha256_file(alone)
    assert told and all(0 <= done <= total == IMAGES for done, total in told)


def dying(folder: Path):
    os.kill(os.getpid(), signal.SIGKILL)


def test_when_all_workers_die_the_job_says_so_and_how_to_go_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "SPAWN", multiprocessing.get_context("fork"))  # saves the interpreter's start
    job = start_job(BrightTeacher(), open_images(folder), tmp_path, SMALL)
    with pytest.raises(EnvironmentLacks, match="14 of 14 shards are not labelled: labels-0 ended with -9") as caught:
        run_workers(job, partial(dying, folder), 1)
    assert "--workers" in str(caught.value.hint)


def failing(folder: Path):
    raise EnvironmentLacks("no such GPU", hint="use another")


def test_what_a_worker_met_is_told_by_the_parent(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "SPAWN", multiprocessing.get_context("fork"))
    job = start_job(BrightTeacher(), open_images(folder), tmp_path, SMALL)
    with pytest.raises(EnvironmentLacks, match="no such GPU"):
        run_workers(job, partial(failing, folder), 1)


def test_an_interrupted_worker_gives_its_shard_back(alone: Path, folder: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    out, images = tmp_path / "labels", open_images(folder)
    with pytest.raises(KeyboardInterrupt):
        label_images(BrightTeacher(), images, out, SMALL, progress=interrupt)
    begun = time.monotonic()
    label_images(BrightTeacher(), images, out, SMALL)
    assert time.monotonic() - begun < working.POLL_S
    assert sha256_file(out) == sha256_file(alone)
