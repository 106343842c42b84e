"""Stage 35: the calibration set, pseudo-labelled; a picture that the labeller can make nothing of is left out.

A set that `datk data calibration build` made is taken whole, as it lies, after its files have been hashed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datk.artifact.files import sha256_file, write_json
from datk.artifact.manifest import Dataset, Metric
from datk.config.schema import PhotosSection, QuantizeSection
from datk.config.train_sections import PseudoLabelSection
from datk.data.calibration_set import INDEX, check_files, check_unseen, read_calibration_set
from datk.data.photos import check_held_out
from datk.depth.preprocess import read_image
from datk.errors import DataError
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps.photos import PhotoSource, photo_set
from datk.pipeline.steps.teacher import spec_of
from datk.pipeline.teachers import open_teacher

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "35-calibration"
FILE = "calibration.json"
LABELS = "labels"
FEWEST = 8
"""Photographs below which no range is believed; 100 to 300 are what the literature uses."""
SPARE = 1.25
"""Candidates labelled per photograph wanted, so that those left out are replaced."""


@dataclass(frozen=True)
class CalibrationPhoto:
    """One photograph of the set and its pseudo-label."""

    name: str
    image: Path
    number: int
    """Of its pseudo-label."""
    label: Path | None = None
    """The pseudo-label's own file; None: it lies in the stage's shards."""


def run(
    labeller: str, section: QuantizeSection, labels: PseudoLabelSection, photos: PhotosSection, stage: StageRun
) -> Outcome:
    """Label candidates with the teacher (`labeller`: its checkpoint, STAGE/FILE), keep `section.count` usable ones.

    Raises DataError when a candidate is also held out for validation, or no candidate has a usable label.
    """
    from datk.train.labelling.read import left_out
    from datk.train.pseudo_label import label_images

    source, file = labeller.split("/")
    spec = spec_of(stage.folder(source)) or str(stage.folder(source) / file)
    found = photo_set(section.images, "calibration", ceil(SPARE * section.count), seed=stage.seed)
    check_held_out(photo_set(photos.validation, "validation", None, seed=stage.seed).paths, found.paths)
    teacher = open_teacher(spec, labels, source=source)
    label_images(
        teacher, PhotoSource(found, name="calibration"), stage.out / LABELS, labels, progress=stage.reporter.progress
    )
    teacher.close()
    reasons = left_out(stage.out / LABELS)
    readable = [(number, path) for number, path in enumerate(found.paths) if number not in reasons]
    reasons |= {number: "one flat colour" for number, path in readable if _is_flat(path)}
    kept: list[dict[str, Any]] = []
    dropped: list[dict[str, str]] = []
    for number, (name, path) in enumerate(zip(found.names, found.paths, strict=True)):
        if number in reasons:
            dropped.append({"name": name, "reason": reasons[number]})
        elif len(kept) < section.count:
            kept.append({"name": name, "image": str(path), "sha256": sha256_file(path), "number": number})
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


def take(folder: Path, photos: PhotosSection, stage: StageRun) -> Outcome:
    """Take a set built before: every file hashed, none of them near a photograph held out for validation.

    Raises DataError for a file that is missing or changed, or a held-out photograph that looks like one of the set.
    """
    found = read_calibration_set(folder)
    check_files(folder, found)
    held_out = photo_set(photos.validation, "validation", None, seed=stage.seed).paths
    check_unseen(held_out, found, max_distance=found.keep_out["max_distance"])
    kept = [
        {"name": e.name, "image": str(folder / e.file), "sha256": e.sha256, "number": n, "label": str(folder / e.label)}
        for n, e in enumerate(found.photos)
    ]
    teacher = str(found.teacher["source"])
    write_json(stage.out / FILE, {"photos": kept, "left_out": [], "labelled_by": teacher, "set_sha256": found.sha256})
    stage.reporter.note(found.describe())
    n = len(found.photos)
    return Outcome(
        datasets=[Dataset(name="calibration", split_sha256=found.sha256, licence=found.licence, n=n)],
        metrics={"calibration_images": Metric(value=n, unit="images", n=n)},
        facts={
            "labelled_by": teacher,
            "calibration_set": {
                "sha256": found.sha256,
                "index_sha256": sha256_file(folder / INDEX),
                "input_size": list(found.input_size),
                "seed": found.seed,
                "teacher": found.teacher,
                "kinds": {kind.name: kind.taken for kind in found.kinds},
                "kept_out": found.keep_out["sets"],
            },
        },
    )


def _is_flat(path: Path) -> bool:
    """Whether every pixel of a photograph has the same colour: no activation range can be learned from it."""
    image = read_image(path)
    return bool((image == image[:1, :1]).all())


def read_set(folder: Path) -> list[CalibrationPhoto]:
    """The set as a finished stage left it. Raises DataError when its file is gone or damaged."""
    try:
        entries = json.loads((folder / FILE).read_text(encoding="utf-8"))["photos"]
        return [
            CalibrationPhoto(e["name"], Path(e["image"]), e["number"], Path(e["label"]) if "label" in e else None)
            for e in entries
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / FILE}: no calibration set ({error})", hint="run the recipe again") from error


def read_labels(folder: Path, photos: list[CalibrationPhoto]) -> list[NDArray]:
    """Their pseudo-labels: (h, w) float32 disparity in 0..1, 1 nearest. Raises DataError for a damaged folder."""
    from datk.train.labelling.encoding import decode
    from datk.train.labelling.read import open_labels

    if all(photo.label is not None for photo in photos):
        return [decode(_bytes_of(p.label), "png16", where=str(p.label)) for p in photos if p.label is not None]
    labels = open_labels(folder / LABELS)
    found = []
    for photo in photos:
        index = labels.index_of(photo.number)
        if index is None:
            raise DataError(f"{folder}: no label for {photo.name}", hint="run the recipe again")
        found.append(labels.label(index))
    labels.close()
    return found


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})", hint="build the calibration set again") from error
