"""Stage 30: the student, distilled from pseudo-labelled real photographs only, or a checkpoint in its place.

A recipe may have it learn from labelled images instead of these, or beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from datk.config.data_section import SetSection
from datk.config.schema import PhotosSection
from datk.config.train_sections import StudentSection
from datk.data.sources import ImageSource
from datk.pipeline.ship.chain import stated
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps import data, labels, weights
from datk.pipeline.steps.photos import training_images
from datk.pipeline.steps.teacher import net_and_licence
from datk.pipeline.steps.training import training_outcome

FILE = "student.safetensors"


def distil(section: StudentSection, photos: PhotosSection, sets: Sequence[SetSection], stage: StageRun) -> Outcome:
    """Train on what the section names; resumes from its own training state after Ctrl-C."""
    from datk.train.labelling.read import open_labels
    from datk.train.student import distill

    seed = stage.seed if section.seed is None else section.seed
    teacher, licence = None, weights.licence_of_start(section.checkpoint)
    if "10-teacher" in stage.needs:
        teacher, licence = net_and_licence(stage.folder("10-teacher"))
    folders: list[Path] | None = None
    images: ImageSource | list[ImageSource] | None = None
    labelled, learnt = None, []
    if section.uses_labels:
        learnt += stage.manifest(labels.NAME).datasets
        if photos.labels is None:
            folders, images = [stage.folder(labels.NAME)], training_images(photos.images, seed=stage.seed).source
        else:
            folders = [Path(f) for f in photos.label_folders]
            images = [source for _, _, source in labels.opened(photos)]
            licence = str(stage.manifest(labels.NAME).facts["teacher_licence"])
    if section.uses_labelled:
        before = stage.manifest(data.NAME if sets else "05-synthetic").datasets
        learnt += before
        labelled = data.labelled_sets(sets, stage, seed=seed) if sets else stage.folder("05-synthetic")
        licence = data.licence_of_weights(before, licence) if sets else licence
    for other in photos.more_labels:
        folders = [*(folders or ()), Path(other)]
        licence = f"{licence}; labels by weights under {open_labels(Path(other)).job.record['teacher']['licence']}"
    result = distill(
        section,
        folders,
        teacher,
        stage.out,
        seed=seed,
        progress=stage.reporter.progress,
        licence=licence,
        labelled=labelled,
        images=images,
    )
    stage.reporter.note(
        f"feature source: {result.facts['feature_source']}; started from {result.facts['started_from']}"
    )
    return training_outcome(result, name=f"student {section.size}", datasets=learnt, licence=licence)


def load(path: Path, kind: str | None, max_depth_m: float | None, licence: str | None, stage: StageRun) -> Outcome:
    """Take an official, Hugging Face or own checkpoint as the student, unchanged. licence: as the user states it."""
    checkpoint = weights.read(path, kind, max_depth_m)
    if licence is not None:
        checkpoint = replace(checkpoint, licence=stated(licence, checkpoint.licence))
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
