"""Working on a job until nothing is left: one worker's loop, several workers on this machine, and the end."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import datk.errors
from datk.artifact.files import write_json
from datk.depth.teacher import Teacher
from datk.errors import DataError, DatkError, EnvironmentLacks
from datk.measure.heap import keep_freed_memory
from datk.measure.worker_process import end_with_parent
from datk.train.labelling.claims import Board, Lease, LeaseLost
from datk.train.labelling.job import SCHEMA, Images, Job, open_job
from datk.train.labelling.quality import QualityTally
from datk.train.labelling.shard import label_shard, publish
from datk.train.loop import Progress

LEASE_S = 120.0
"""Silence after which an owner on another machine counts as gone: above what NFS may hide a change for (60 s)."""
POLL_S = 2.0
WATCH_S = 0.3
SPAWN = multiprocessing.get_context("spawn")
"""A forked process would inherit the locks of threads it does not have."""
Open = Callable[[], tuple[Teacher, Images]]
"""Opens teacher and images in a worker process; picklable."""


@dataclass(frozen=True)
class LabelSummary:
    """The finished job, from its index."""

    out: Path
    images: int
    labels: int
    usable: int
    """Labels that are not degenerate: what a student sees."""
    quarantined: int
    kept_out: int
    died: tuple[str, ...] = ()
    """Workers of this call that ended badly, in words; what they had begun was redone."""


def work(
    job: Job,
    teacher: Teacher,
    images: Images,
    *,
    lease_s: float = LEASE_S,
    progress: Progress | None = None,
    first: int = 0,
) -> LabelSummary:
    """Take shards until every one is finished, here or elsewhere; then write the index.

    first: where to begin looking, so that workers started together do not queue for one shard. Waits for shards that
    others hold, to take them over should their owners die. Raises DataError from label_shard.
    """
    board = Board(job.claims, lease_s=lease_s)
    order = [(first + i) % job.shards for i in range(job.shards)]
    with _threads_of_the_job(job):
        while left := _left(job, order):
            lease = board.take(left)
            if lease is None:
                _tell(job, board, progress)
                time.sleep(min(POLL_S, lease_s / 4))
                continue
            with lease:
                if not job.manifest(lease.number).exists():
                    _one_shard(job, lease, teacher, images, progress)
    return finish(job)


def label_and_publish(job: Job, shard: int, images: Images, teacher: Teacher, *, lease_s: float = LEASE_S) -> str:
    """One named shard, under a claim of its own: what a scheduler such as Ray calls. Says what came of it."""
    if job.manifest(shard).exists():
        return "finished before"
    lease = Board(job.claims, lease_s=lease_s).take([shard])
    if lease is None:
        return "another worker has it"
    with lease, _threads_of_the_job(job):
        if job.manifest(shard).exists():
            return "finished before"
        return "labelled" if _one_shard(job, lease, teacher, images, None) else "taken over"


def run_workers(
    job: Job, opener: Open, workers: int, *, lease_s: float = LEASE_S, progress: Progress | None = None
) -> LabelSummary:
    """As many processes of this machine as asked for; each opens the teacher for itself.

    What a worker that died had begun, the others redo. Raises EnvironmentLacks when all have died before the job was
    finished, and whatever a worker met that its user can mend.
    """
    context = SPAWN
    errors = context.SimpleQueue()
    board = Board(job.claims, lease_s=lease_s)
    begin = [n * job.shards // workers for n in range(workers)]
    arguments = [(job.out, opener, lease_s, first, place, errors) for place, first in enumerate(begin)]
    processes = [context.Process(target=_worker, args=a, name=f"labels-{n}") for n, a in enumerate(arguments)]
    for process in processes:
        process.start()
    try:
        while any(p.is_alive() for p in processes):
            _tell(job, board, progress)
            time.sleep(WATCH_S)
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
            process.join()
    died = [f"{p.name} ended with {p.exitcode}" for p in processes if p.exitcode]
    if not errors.empty():
        kind, message, hint = errors.get()
        raise getattr(datk.errors, kind)(message, hint=hint)
    if len(job.finished()) < job.shards:
        raise EnvironmentLacks(
            f"{job.shards - len(job.finished())} of {job.shards} shards are not labelled: {', '.join(died)}",
            hint="a worker ended by -9 was killed, mostly for want of memory: use fewer --workers or a smaller "
            "--batch; the same line goes on where it stopped",
        )
    return replace(finish(job), died=tuple(died))


def finish(job: Job) -> LabelSummary:
    """Write OUT/index.json from the manifests, once all are there, and clear the claims. Same bytes whoever does it.

    Raises DataError when not one image got a label.
    """
    if not job.is_done:
        index = _index(job)
        if index["labels"] == 0:
            first = next(iter([*index["quarantined"], *index["kept_out"]]))
            raise DataError(f"none of {job.count} images got a label; {first}", hint="look at --images")
        try:
            write_json(job.out / "index.json", index)
        except FileNotFoundError:
            if not job.is_done:  # else another worker has finished the job, and swept this one's temporary file away
                raise
    found = summary(job)
    _sweep(job)
    Board(job.claims, lease_s=LEASE_S).clear()
    return found


def summary(job: Job) -> LabelSummary:
    """Of a finished job. Raises DataError when its index is missing or damaged."""
    path = job.out / "index.json"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        return LabelSummary(
            out=job.out,
            images=index["images"],
            labels=index["labels"],
            usable=index["labels"] - index["quality"]["degenerate"],
            quarantined=len(index["quarantined"]),
            kept_out=len(index["kept_out"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no finished pseudo-labels ({error})", hint="run datk pseudo-label again") from error


def read_manifest(job: Job, shard: int) -> dict[str, Any]:
    """One shard's manifest. Raises DataError naming a damaged one, or one of another job."""
    path = job.manifest(shard)
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        belongs = value["job"] == job.key and value["shard"] == shard
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a shard's manifest ({error})", hint="delete it and label again") from error
    if not belongs:
        raise DataError(f"{path}: belongs to another job", hint="delete it and label again")
    return value


def progress_of(job: Job, board: Board) -> int:
    """Images done so far by everybody."""
    finished = job.finished()
    return sum(len(job.numbers(s)) for s in finished) + sum(board.working(finished).values())


def _left(job: Job, order: Sequence[int]) -> list[int]:
    finished = job.finished()
    return [] if len(finished) == job.shards else [s for s in order if s not in finished]


def _one_shard(job: Job, lease: Lease, teacher: Teacher, images: Images, progress: Progress | None) -> bool:
    """Label and publish what the lease covers. False when somebody else did."""

    def on_batch(done: int) -> None:
        lease.done = done
        lease.check()
        if progress is not None:
            progress(before + done, job.count)

    before = sum(len(job.numbers(s)) for s in job.finished()) if progress is not None else 0
    try:
        manifest = label_shard(job, lease.number, images, teacher, on_batch=on_batch)
        lease.check()
    except LeaseLost:
        return False  # whoever took it over publishes the same bytes
    except FileNotFoundError:
        if job.manifest(lease.number).exists():
            return False  # taken over, published, and this worker's leavings swept away
        raise
    return publish(job, lease.number, manifest)


def _worker(out: Path, opener: Open, lease_s: float, first: int, place: int, errors: Any) -> None:
    """A worker process. What a user can mend is told by the parent; anything else is a bug and its traceback."""
    end_with_parent()
    keep_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.set_device(place % torch.cuda.device_count())
    try:
        teacher, images = opener()
        try:
            work(open_job(out), teacher, images, lease_s=lease_s, first=first)
        finally:
            teacher.close()
    except DatkError as error:
        errors.put((type(error).__name__, error.message, error.hint))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)  # the parent, interrupted by the same key, says how to go on


def _tell(job: Job, board: Board, progress: Progress | None) -> None:
    if progress is not None:
        progress(progress_of(job, board), job.count)


class _threads_of_the_job:  # noqa: N801 - read as a statement
    """Sums depend on how many threads share them; with the job's number, any number of workers gives the same bytes."""

    def __init__(self, job: Job) -> None:
        self._wanted = job.record["arithmetic"]["threads"]

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        if self._wanted is not None:
            torch.set_num_threads(self._wanted)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._before)


def _index(job: Job) -> dict[str, Any]:
    tally, hashes = QualityTally(), array("Q")
    shards: list[dict[str, Any]] = []
    quarantined: list[dict[str, Any]] = []
    kept_out: list[dict[str, Any]] = []
    worst = 0.0
    for shard in range(job.shards):
        manifest = read_manifest(job, shard)
        shards.append({k: manifest[k] for k in ("file", "sha256", "bytes", "first", "count")})
        quarantined += manifest["quarantined"]
        kept_out += manifest["kept_out"]
        worst = max(worst, manifest["encoding"]["max_error_rel_measured"])
        tally.add(manifest["labels"])
        hashes.extend(int(line["phash"], 16) for line in manifest["labels"])
    assert len(hashes) + len(quarantined) + len(kept_out) == job.count
    return {
        "schema_version": SCHEMA,
        "job": job.key,
        "images": job.count,
        "labels": len(hashes),
        "bytes": sum(s["bytes"] for s in shards),
        "encoding": {**job.record["encoding"], "max_error_rel_measured": worst},
        "quality": asdict(tally.summary()),
        "equal_hashes": len(hashes) - len(np.unique(np.frombuffer(hashes, np.uint64))),
        "kept_out_sets": job.keep_out.sets,
        "kept_out_notes": list(job.keep_out.notes),
        "kept_out": kept_out,
        "quarantined": quarantined,
        "shards": shards,
    }


def _sweep(job: Job) -> None:
    """Remove what killed workers left: their temporary files, and labels of another content than the manifests name."""
    index = json.loads((job.out / "index.json").read_text(encoding="utf-8"))
    named = {shard["file"] for shard in index["shards"]}
    for path in (job.out / "shards").iterdir():
        if path.suffix == ".part" or (path.suffix == ".tar" and path.name not in named):
            path.unlink(missing_ok=True)
    for pattern in (".job.*", ".index.json.*"):
        for path in job.out.glob(pattern):
            path.unlink(missing_ok=True)
