"""Stage 30: the student, distilled from pseudo-labelled real photographs, or a checkpoint in its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datk.config.data_section import SetSection
from datk.config.schema import PhotosSection
from datk.config.train_sections import StudentSection
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps import weights
from datk.pipeline.steps.photos import training_images
from datk.pipeline.steps.teacher import FILE as TEACHER_FILE
from datk.pipeline.steps.training import training_outcome

if TYPE_CHECKING:
    from datk.train.labelled import LabelledSets

FILE = "student.safetensors"


def distil(section: StudentSection, photos: PhotosSection, sets: Sequence[SetSection], stage: StageRun) -> Outcome:
    """Distil; resumes from its own training state after Ctrl-C. sets: for a section with labelled images beside."""
    from datk.train.student import distill

    teacher = weights.read(stage.folder("10-teacher") / TEACHER_FILE)
    labels = stage.manifest("20-pseudo-labels")
    result = distill(
        section,
        stage.folder("20-pseudo-labels"),
        teacher.net,
        stage.out,
        seed=stage.seed,
        progress=stage.reporter.progress,
        licence=teacher.licence,
        labelled=_labelled(sets, stage) if section.labelled is not None else None,
        images=training_images(photos.images, seed=stage.seed).source,
    )
    stage.reporter.note(
        f"feature source: {result.facts['feature_source']}; started from {result.facts['started_from']}"
    )
    return training_outcome(result, name=f"student {section.size}", datasets=labels.datasets, licence=teacher.licence)


def _labelled(sets: Sequence[SetSection], stage: StageRun) -> Path | LabelledSets:
    if not sets:
        return stage.folder("05-synthetic")
    from datk.data.labelled_sets import mix, open_sets
    from datk.train.labelled import LabelledSets

    return LabelledSets(mix(open_sets(sets), sets, seed=stage.seed), stage.out)


def load(path: Path, kind: str | None, max_depth_m: float | None, stage: StageRun) -> Outcome:
    """Take an official, Hugging Face or own checkpoint as the student, unchanged."""
    checkpoint = weights.read(path, kind, max_depth_m)
    record = weights.keep(checkpoint, stage.out / FILE)
    return Outcome(
        weights=[record],
        facts={
            "source": path.name,
            "format": checkpoint.source_format,
            "preset": checkpoint.preset.name,
            "depth_kind": checkpoint.depth_kind,
        },
    )
