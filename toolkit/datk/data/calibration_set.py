"""A calibration set as a folder: photographs, a pseudo-label each, and an index that hashes all of it.

DIR/index.json        what it holds, how it was chosen, by whom labelled; every file with its sha256
DIR/photos/0007.jpg   the photograph's own bytes, resized when it is used, by the same function as everywhere
DIR/labels/0007.png   its pseudo-label, 16-bit grey, 65535 nearest
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datk.artifact.files import sha256_file, sha256_json
from datk.data.phash import distances, perceptual_hash_pair
from datk.depth.preprocess import read_image
from datk.errors import DataError

INDEX = "index.json"
WHAT: Literal["datk calibration set"] = "datk calibration set"
SCHEMA: Literal[1] = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CalibrationEntry(_Record):
    """One photograph of the set. Files are relative to its folder."""

    name: str
    """What it was called in the folder it was chosen from."""
    file: str
    sha256: str
    phash: str
    """64-bit perceptual hash, 16 hexadecimal digits."""
    kind: int
    label: str
    label_sha256: str


class SceneKind(_Record):
    """A kind of scene: in words, how many candidates were of it and how many were taken, mean statistics."""

    name: str
    candidates: int
    taken: int
    means: dict[str, float]


class CalibrationSet(_Record):
    """What DIR/index.json says."""

    what: Literal["datk calibration set"] = WHAT
    schema_version: Literal[1] = SCHEMA
    sha256: str
    """Of the photographs and labels in their order, and the bucket: the set's identity."""
    key: str
    """Of everything that was asked for: the same line finds its own set again."""
    input_size: tuple[int, int]
    """(height, width) the teacher labelled at and the statistics were taken at."""
    preprocessing: Literal["datk.depth.preprocess.bucket_image"] = "datk.depth.preprocess.bucket_image"
    batch: Literal[1] = 1
    seed: int
    asked: int
    """Photographs asked for; fewer are there when fewer were usable."""
    source: str
    licence: str
    teacher: dict[str, Any]
    keep_out: dict[str, Any]
    """Benchmarks and other sets whose images were kept out: sets with their counts, distance, notes."""
    tools: dict[str, str]
    kinds: list[SceneKind]
    photos: list[CalibrationEntry] = Field(min_length=1)
    left_out: list[dict[str, str]]
    """Candidates that could not be taken: name and reason."""

    def describe(self) -> str:
        """In one line."""
        size = "x".join(map(str, self.input_size))
        return (
            f"calibration set {self.sha256[:12]}: {len(self.photos)} photographs of {len(self.kinds)} kinds at {size}"
        )


def set_digest(photos: list[CalibrationEntry], input_size: tuple[int, int]) -> str:
    """The identity of a set: what is in it, in which order, at which bucket; names do not count."""
    return sha256_json([list(input_size), [[p.sha256, p.label_sha256] for p in photos]])


def is_calibration_set(folder: Path) -> bool:
    """Whether a folder says of itself that it is one. A folder of photographs may have another index.json."""
    try:
        value = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and value.get("what") == WHAT


def read_calibration_set(folder: Path) -> CalibrationSet:
    """The index alone; its files are not looked at. Raises DataError when it is damaged or of another schema."""
    path = folder / INDEX
    hint = "build it again: datk data calibration build"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict) and value.get("schema_version") != SCHEMA:
            raise DataError(
                f"{path}: schema_version {value.get('schema_version')!r}, this datk reads {SCHEMA}", hint=hint
            )
        found = CalibrationSet.model_validate(value)
    except OSError as error:
        raise DataError(f"{path}: no calibration set ({error.strerror})", hint=hint) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}", hint=hint) from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})", hint=hint) from error
    if set_digest(found.photos, found.input_size) != found.sha256:
        raise DataError(f"{path}: its list of files is not the one it was made with", hint=hint)
    return found


def check_files(folder: Path, found: CalibrationSet) -> None:
    """Hash every photograph and label. Raises DataError naming the files that are missing or changed."""
    wrong = []
    for entry in found.photos:
        for file, digest in ((entry.file, entry.sha256), (entry.label, entry.label_sha256)):
            path = folder / file
            if not path.is_file():
                wrong.append(f"{file} is missing")
            elif sha256_file(path) != digest:
                wrong.append(f"{file} has changed")
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise DataError(
            f"{folder}: {', '.join(wrong[:5])}{more}", hint="build it again in another folder, or restore the files"
        )


def check_unseen(held_out: list[Path], found: CalibrationSet, *, max_distance: int) -> None:
    """Raise DataError naming every held-out photograph that looks like one of the set, mirrored or not.

    max_distance: differing bits of 64 up to which two photographs count as one.
    """
    hashes = np.array([int(entry.phash, 16) for entry in found.photos], np.uint64)
    seen = []
    for path in held_out:
        for value in perceptual_hash_pair(read_image(path)):
            bits = distances(value, hashes)
            if int(bits.min()) <= max_distance:
                seen.append(f"{path.name} (as {found.photos[int(bits.argmin())].name})")
                break
    if seen:
        more = f" and {len(seen) - 5} more" if len(seen) > 5 else ""
        raise DataError(
            f"{len(seen)} of {len(held_out)} photographs to judge on look like ones of the calibration set: "
            f"{', '.join(seen[:5])}{more}",
            hint="build the set with --keep-out FOLDER of the photographs to judge on, or judge on others",
        )
