"""`datk pseudo-label`: a teacher's labels of any source of images, by any number of workers and machines."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datk.config.train_sections import PseudoLabelSection
from datk.pipeline.teachers import open_both

if TYPE_CHECKING:
    from datk.depth.teacher import Teacher
    from datk.train.labelling.job import Job
    from datk.train.labelling.work import LabelSummary

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LabelRequest:
    """What was typed."""

    teacher: str
    images: str
    out: Path
    section: PseudoLabelSection
    keep_out: tuple[Path, ...] = ()
    """Folders whose images must not be labelled, beside the benchmarks at hand."""
    workers: int | None = None
    """None: on a CPU one a core, else one a GPU."""
    lease_s: float | None = None
    device: str = "auto"
    precision: str = "auto"
    ray: bool = False
    """Hand the shards to a Ray cluster, `workers` actors of it."""


@dataclass(frozen=True)
class LabelPlan:
    """What a request comes to, before anything is labelled. said: what was taken by default, in words."""

    record: dict[str, Any]
    workers: int
    shards: int
    finished: int
    said: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "images": self.record["images"]["count"],
            "shards": self.shards,
            "finished_shards": self.finished,
            "workers": self.workers,
            "teacher": self.record["teacher"],
            "arithmetic": self.record["arithmetic"],
            "encoding": self.record["encoding"],
            "kept_out_sets": self.record["keep_out"]["sets"],
            "notes": self.record["keep_out"]["notes"],
        }


def plan_labels(request: LabelRequest) -> LabelPlan:
    """The job and how much of it is done. Writes nothing. Raises what opening teacher and images raises."""
    teacher, _, record, workers, said = _opened(request)
    teacher.close()
    shards = -(-record["images"]["count"] // request.section.shard_size)
    finished = len(list((request.out / "shards").glob("*.json")))
    return LabelPlan(record, workers, shards, finished, said)


def label(
    request: LabelRequest, *, note: Callable[[str], None], progress: Progress | None = None
) -> tuple[LabelSummary, Job]:
    """Label, join others at it, or go on. Raises DataError, CheckpointError, EnvironmentLacks, UsageError."""
    from datk.train.labelling.job import create_job
    from datk.train.labelling.work import LEASE_S, run_workers, work

    teacher, images, record, workers, said = _opened(request)
    for line in [*said, *record["teacher"]["notes"], *record["keep_out"]["notes"]]:
        note(line)
    lease_s = request.lease_s or LEASE_S
    try:
        job = create_job(request.out, record)
        workers = min(workers, job.shards)
        if job.is_done or (workers == 1 and not request.ray):
            return work(job, teacher, images, lease_s=lease_s, progress=progress), job
    finally:
        teacher.close()
    opener = partial(open_both, request.teacher, request.images, request.section, request.device, request.precision)
    if request.ray:
        from datk.train.labelling.on_ray import run_on_ray

        return run_on_ray(job, opener, workers, lease_s=lease_s, progress=progress), job
    return run_workers(job, opener, workers, lease_s=lease_s, progress=progress), job


def _opened(request: LabelRequest) -> tuple[Teacher, Any, dict[str, Any], int, list[str]]:
    from datk.train.labelling.job import describe
    from datk.train.labelling.keep_out import benchmarks_at_hand

    teacher, images = open_both(request.teacher, request.images, request.section, request.device, request.precision)
    record = describe(teacher, images, request.section, benchmarks_at_hand(request.keep_out))
    if request.workers is not None:
        return teacher, images, record, request.workers, []
    workers = _default_workers(teacher.device, request.section.threads)
    return teacher, images, record, workers, [f"no --workers: {workers} on this machine"]


def _default_workers(device: str, threads: int) -> int:
    if device == "cuda":
        import torch

        return torch.cuda.device_count()
    return max(1, len(os.sched_getaffinity(0)) // threads) if hasattr(os, "sched_getaffinity") else 1
