"""Stage 10: a teacher trained on labelled images only, or a checkpoint in its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datk.config.data_section import SetSection
from datk.config.train_sections import TeacherSection
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps import data, weights
from datk.pipeline.steps.training import training_outcome

FILE = "teacher.safetensors"


def train(section: TeacherSection, sets: Sequence[SetSection], stage: StageRun) -> Outcome:
    """Train on the sets, or on the rendered images; resumes from its own checkpoint after Ctrl-C."""
    from datk.train.teacher import train_teacher

    if not sets:
        source, before = stage.folder("05-synthetic"), stage.manifest("05-synthetic").datasets
        result = train_teacher(section, source, stage.out, progress=stage.reporter.progress, seed=stage.seed)
        return training_outcome(result, name=f"teacher {section.size}", datasets=before, licence="Apache-2.0")
    before = stage.manifest(data.NAME).datasets
    licence = data.licence_of_weights(before, weights.licence_of_start(section.checkpoint))
    labelled = data.labelled_sets(sets, stage, seed=stage.seed)
    result = train_teacher(
        section, labelled, stage.out, progress=stage.reporter.progress, seed=stage.seed, licence=licence
    )
    return training_outcome(
        result,
        name=f"teacher {section.size}",
        datasets=before,
        licence=licence,
    )


def load(path: Path, stage: StageRun) -> Outcome:
    """Take an official or own checkpoint as the teacher."""
    checkpoint = weights.read(path)
    record = weights.keep(checkpoint, stage.out / FILE)
    return Outcome(
        weights=[record],
        facts={"source": path.name, "format": checkpoint.source_format, "preset": checkpoint.preset.name},
    )
