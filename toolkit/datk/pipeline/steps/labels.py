"""Stage 20: the teacher labels unlabelled real photographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from datk.artifact.files import write_json
from datk.artifact.manifest import Dataset, Metric
from datk.config.schema import PhotosSection
from datk.config.train_sections import PseudoLabelSection
from datk.data.photos import check_held_out
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps.photos import photo_set, training_images
from datk.pipeline.steps.teacher import spec_of
from datk.pipeline.teachers import open_teacher

if TYPE_CHECKING:
    from datk.data.sources import ImageSource
    from datk.train.labelling.read import LabelFolder

NAME = "20-pseudo-labels"


def take(photos: PhotosSection, stage: StageRun) -> Outcome:
    """Look at labels that `datk pseudo-label` has finished; they stay where they are. Raises DataError."""
    found = {}
    datasets = []
    for name, labels, images in opened(photos):
        teacher = labels.job.record["teacher"]
        found[name] = {"job": labels.job.key, "teacher": teacher["name"], "licence": teacher["licence"]}
        stage.reporter.note(f"{name}: {len(labels):,} usable labels of {len(images):,} images, by {teacher['name']}")
        digest = str(labels.job.record["images"]["keys_sha256"])
        datasets.append(Dataset(name=images.name, split_sha256=digest, licence="the user's own", n=len(images)))
    write_json(stage.out / "taken.json", found)
    total = sum(d.n for d in datasets)
    return Outcome(
        datasets=datasets,
        metrics={"images": Metric(value=total, unit="images", n=total)},
        facts={"teacher_licence": ", ".join(sorted({str(f["licence"]) for f in found.values()})), "labels": found},
    )


def opened(photos: PhotosSection) -> list[tuple[str, LabelFolder, ImageSource]]:
    """(folder, its labels, their images) for each folder of finished labels. Raises DataError."""
    from datk.train.labelling.read import images_of, open_labels

    out = []
    specs: tuple[str | None, ...] = (None,) * len(photos.label_folders)
    if photos.images != "builtin":
        specs = photos.image_specs
    for folder, spec in zip(photos.label_folders, specs, strict=True):
        labels = open_labels(Path(folder))
        out.append((folder, labels, images_of(labels, spec)))
    return out


def run(section: PseudoLabelSection, photos: PhotosSection, stage: StageRun) -> Outcome:
    """Label the training photographs; finished shards are kept, the others added."""
    from datk.train.labelling.keep_out import benchmarks_at_hand
    from datk.train.pseudo_label import label_images

    found = training_images(photos.images, seed=stage.seed)
    if photos.validation != "builtin":
        check_held_out(photo_set(photos.validation, "validation", None, seed=stage.seed).paths, found.paths)
    spec = spec_of(stage.folder("10-teacher"))
    assert spec is not None, "the teacher's stage is finished"
    teacher = open_teacher(spec, section, source="10-teacher")
    keep_out = benchmarks_at_hand()
    try:
        summary = label_images(
            teacher, found.source, stage.out, section, keep_out=keep_out, progress=stage.reporter.progress
        )
    finally:
        teacher.close()
    for left_out, why in ((summary.quarantined, "could not be read"), (summary.kept_out, "are in a benchmark")):
        if left_out:
            stage.reporter.note(f"{left_out} of {summary.images} photographs {why}: index.json names them")
    n = summary.images
    return Outcome(
        datasets=[Dataset(name="photographs", split_sha256=found.sha256, licence=found.licence, n=n)],
        metrics={
            "labels": Metric(value=summary.labels, unit="images", n=n),
            "degenerate_labels": Metric(
                value=summary.labels - summary.usable, unit="images", n=n, higher_is_better=False
            ),
            "unreadable_images": Metric(value=summary.quarantined, unit="images", n=n, higher_is_better=False),
            "benchmark_images": Metric(value=summary.kept_out, unit="images", n=n, higher_is_better=False),
        },
        facts={
            "device": teacher.device,
            "precision": teacher.precision,
            "teacher": teacher.name,
            "teacher_licence": teacher.licence,
            "kept_out_sets": keep_out.sets,
            "kept_out_notes": list(keep_out.notes),
        },
    )
