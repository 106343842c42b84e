"""Stage 35: the calibration set, pseudo-labelled; a picture that the labeller can make nothing of is left out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from datk.artifact.files import write_json
from datk.artifact.manifest import Dataset, Metric
from datk.config.schema import PhotosSection, QuantizeSection
from datk.config.train_sections import PseudoLabelSection
from datk.data.photos import check_held_out
from datk.depth.label_quality import label_quality
from datk.errors import DataError
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps import weights
from datk.pipeline.steps.photos import photo_set

NAME = "35-calibration"
FILE = "calibration.json"
SPARE = 1.25
"""Candidates labelled per photograph wanted, so that those left out are replaced."""


@dataclass(frozen=True)
class CalibrationPhoto:
    """One photograph of the set and its pseudo-label."""

    name: str
    image: Path
    label: Path


def run(
    labeller: str, section: QuantizeSection, labels: PseudoLabelSection, photos: PhotosSection, stage: StageRun
) -> Outcome:
    """Label candidates with the teacher (`labeller`: its checkpoint, STAGE/FILE), keep `section.count` usable ones.

    Raises DataError when a candidate is also held out for validation, or no candidate has a usable label.
    """
    from datk.train.pseudo_label import label_photos
    from datk.train.sources import read_label

    source, file = labeller.split("/")
    teacher = weights.read(stage.folder(source) / file)
    found = photo_set(section.images, "calibration", ceil(SPARE * section.count), seed=stage.seed)
    check_held_out(photo_set(photos.validation, "validation", None, seed=stage.seed).paths, found.paths)
    label_photos(teacher.net, found.paths, stage.out, labels, progress=stage.reporter.progress)
    entries = json.loads((stage.out / "index.json").read_text(encoding="utf-8"))["labels"]
    kept: list[dict[str, str]] = []
    dropped: list[dict[str, str]] = []
    for name, path, entry in zip(found.names, found.paths, entries, strict=True):
        quality = label_quality(read_label(stage.out / entry["label"]))
        if quality.degenerate:
            dropped.append({"name": name, "reason": quality.reason})
        elif len(kept) < section.count:
            kept.append({"name": name, "image": str(path), "sha256": entry["image_sha256"], "label": entry["label"]})
    if not kept:
        raise DataError(
            f"none of {len(found.paths)} calibration photographs has a usable pseudo-label; "
            f"{dropped[0]['name']}: {dropped[0]['reason']}",
            hint="name ordinary photographs with --calibration DIR, or check the teacher with datk validate",
        )
    for item in dropped:
        stage.reporter.note(f"calibration: {item['name']} left out, {item['reason']}")
    write_json(stage.out / FILE, {"photos": kept, "left_out": dropped, "labelled_by": source})
    n = len(found.paths)
    return Outcome(
        datasets=[Dataset(name="calibration", split_sha256=found.sha256, licence=found.licence, n=len(kept))],
        metrics={
            "calibration_images": Metric(value=len(kept), unit="images", n=n),
            "left_out": Metric(value=len(dropped), unit="images", n=n, higher_is_better=False),
        },
        facts={"labelled_by": source, "left_out": dropped},
    )


def read_set(folder: Path) -> list[CalibrationPhoto]:
    """The set as a finished stage left it. Raises DataError when its file is gone or damaged."""
    try:
        entries = json.loads((folder / FILE).read_text(encoding="utf-8"))["photos"]
        return [CalibrationPhoto(e["name"], Path(e["image"]), folder / e["label"]) for e in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / FILE}: no calibration set ({error})", hint="run the recipe again") from error
