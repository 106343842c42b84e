"""Stage 20: the teacher labels unlabelled real photographs."""

from __future__ import annotations

from datk.artifact.manifest import Dataset, Metric
from datk.config.schema import PhotosSection
from datk.config.train_sections import PseudoLabelSection
from datk.data.photos import check_held_out
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps import weights
from datk.pipeline.steps.photos import photo_set
from datk.pipeline.steps.teacher import FILE as TEACHER_FILE


def run(section: PseudoLabelSection, photos: PhotosSection, stage: StageRun) -> Outcome:
    """Label the training photographs; labels already there are kept, the missing ones added."""
    from datk.train.pseudo_label import label_photos

    teacher = weights.read(stage.folder("10-teacher") / TEACHER_FILE)
    found = photo_set(photos.images, "train", None, seed=stage.seed)
    if photos.validation != "builtin":
        check_held_out(photo_set(photos.validation, "validation", None, seed=stage.seed).paths, found.paths)
    summary = label_photos(teacher.net, found.paths, stage.out, section, progress=stage.reporter.progress)
    return Outcome(
        datasets=[Dataset(name="photographs", split_sha256=found.sha256, licence=found.licence, n=summary.count)],
        metrics={
            "labels": Metric(value=summary.count, unit="images", n=summary.count),
            "constant_labels": Metric(value=summary.constant, unit="images", n=summary.count, higher_is_better=False),
        },
        facts={"device": summary.device, "precision": summary.precision, "teacher_licence": teacher.licence},
    )
