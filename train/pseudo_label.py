"""The teacher's disparity of unlabelled images: finished shards are skipped, half-written ones redone.

Depth Anything V2, section 5.2: the student learns from these labels alone. How a job is laid out, shared and resumed:
datk.train.labelling.
"""

from __future__ import annotations

from pathlib import Path

from datk.config.train_sections import PseudoLabelSection
from datk.depth.teacher import Teacher
from datk.train.labelling.job import Images, Job, create_job, describe
from datk.train.labelling.keep_out import NOTHING, KeepOut
from datk.train.labelling.work import LEASE_S, LabelSummary, Open, run_workers, work
from datk.train.loop import Progress

INDEX = "index.json"


def label_images(
    teacher: Teacher,
    images: Images,
    out: Path,
    section: PseudoLabelSection,
    *,
    keep_out: KeepOut = NOTHING,
    workers: int = 1,
    opener: Open | None = None,
    lease_s: float = LEASE_S,
    progress: Progress | None = None,
) -> LabelSummary:
    """Label every image of a source into out; the same call elsewhere, or again, joins in or goes on.

    A label is (disparity - shift) / scale with scale = max - min and shift = min of the image's map, at the size the
    teacher gives; metric depth is inverted first. workers > 1: processes of this machine, which open teacher and
    images by `opener` (picklable). Bytes are the same whatever the number of workers, machines and interruptions.
    Raises DataError for an empty source, one of which no image can be read, or a folder holding another job.
    """
    job = start_job(teacher, images, out, section, keep_out=keep_out)
    workers = min(workers, job.shards)
    if workers == 1 or job.is_done:
        return work(job, teacher, images, lease_s=lease_s, progress=progress)
    assert opener is not None, "several workers open the teacher for themselves"
    return run_workers(job, opener, workers, lease_s=lease_s, progress=progress)


def start_job(
    teacher: Teacher, images: Images, out: Path, section: PseudoLabelSection, *, keep_out: KeepOut = NOTHING
) -> Job:
    """Make or join the job of a folder without working on it. Raises DataError like label_images."""
    return create_job(out, describe(teacher, images, section, keep_out))
