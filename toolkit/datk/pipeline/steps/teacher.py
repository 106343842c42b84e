"""Stage 10: a teacher trained on labelled images only, or a checkpoint in its place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datk.artifact.files import write_json
from datk.artifact.manifest import Weights
from datk.config.data_section import SetSection
from datk.config.train_sections import TeacherSection
from datk.errors import DataError
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps import data, weights
from datk.pipeline.steps.training import training_outcome

if TYPE_CHECKING:
    from datk.models.depth_anything import DepthAnything

FILE = "teacher.safetensors"
KEPT, RECORD = "model", "teacher.json"
"""A teacher from elsewhere: its files, and what they are."""


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


def load(spec: str, stage: StageRun) -> Outcome:
    """Take an official or own checkpoint, or a model from elsewhere (hf:, marigold:), as the teacher."""
    from datk.models.outside import is_outside

    if is_outside(spec):
        return _load_outside(spec, stage)
    checkpoint = weights.read(Path(spec))
    record = weights.keep(checkpoint, stage.out / FILE)
    return Outcome(
        weights=[record],
        facts={"source": Path(spec).name, "format": checkpoint.source_format, "preset": checkpoint.preset.name},
    )


def _load_outside(spec: str, stage: StageRun) -> Outcome:
    """Copy the model's files, so that the run stands by itself."""
    from datk.models.outside import check_outside, open_outside
    from datk.models.outside.folder import copy_model, folder_licence

    folder, digest = check_outside(spec)
    prefix = spec.partition(":")[0]
    copy_model(folder, stage.out / KEPT)
    teacher = open_outside(f"{prefix}:{stage.out / KEPT}", device="cpu", precision="fp32")
    for note in teacher.notes:
        stage.reporter.note(note)
    licence = folder_licence(folder)
    facts = {
        "source": spec,
        "format": prefix,
        "preset": teacher.name,
        "depth_kind": str(teacher.depth_kind),
        "notes": list(teacher.notes),
    }
    write_json(stage.out / RECORD, {"prefix": prefix, "licence": licence, **facts})
    teacher.close()
    return Outcome(weights=[Weights(name=teacher.name, sha256=digest, licence=licence)], facts=facts)


def spec_of(folder: Path) -> str | None:
    """What a finished teacher stage holds, as --teacher takes it; None when it holds none."""
    if (folder / RECORD).is_file():
        return f"{_record(folder)['prefix']}:{folder / KEPT}"
    return str(folder / FILE) if (folder / FILE).is_file() else None


def net_and_licence(folder: Path) -> tuple[DepthAnything | None, str]:
    """Our net of a finished teacher stage, None when the teacher is from elsewhere; and its licence."""
    if (folder / RECORD).is_file():
        return None, str(_record(folder)["licence"])
    checkpoint = weights.read(folder / FILE)
    return checkpoint.net, checkpoint.licence


def _record(folder: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return {"prefix": value["prefix"], "licence": value["licence"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / RECORD}: not a teacher's record ({error})", hint="run the recipe again") from error
