"""Stage 10: a teacher trained on synthetic images only, or a checkpoint in its place."""

from __future__ import annotations

from pathlib import Path

from datk.config.train_sections import TeacherSection
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps import weights
from datk.pipeline.steps.training import training_outcome

FILE = "teacher.safetensors"


def train(section: TeacherSection, stage: StageRun) -> Outcome:
    """Train from the synthetic stage; resumes from its own checkpoint after Ctrl-C."""
    from datk.train.teacher import train_teacher

    result = train_teacher(
        section, stage.folder("05-synthetic"), stage.out, progress=stage.reporter.progress, seed=stage.seed
    )
    data = stage.manifest("05-synthetic").datasets
    return training_outcome(result, name=f"teacher {section.size}", datasets=data, licence="Apache-2.0")


def load(path: Path, stage: StageRun) -> Outcome:
    """Take an official or own checkpoint as the teacher."""
    checkpoint = weights.read(path)
    record = weights.keep(checkpoint, stage.out / FILE)
    return Outcome(
        weights=[record],
        facts={"source": path.name, "format": checkpoint.source_format, "preset": checkpoint.preset.name},
    )
