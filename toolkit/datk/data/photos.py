"""Photographs without depth: the 300 that ship with datk, and how any photograph is named and hashed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datk.artifact.files import sha256_file
from datk.depth.preprocess import read_image
from datk.errors import DataError

Split = Literal["train", "calibration", "validation"]
SPLITS: tuple[Split, ...] = ("train", "calibration", "validation")


@dataclass(frozen=True, kw_only=True)
class PhotoFile:
    """One photograph on disk. `sha256` is of the file's bytes; `licence` and `credit` travel into manifests."""

    path: Path
    sha256: str
    licence: str
    credit: str = ""
    source: str = ""

    @property
    def name(self) -> str:
        return self.path.name

    def read(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB. Raises DataError when the file is gone, unreadable or not the one that was hashed."""
        check_digest(self.path, self.sha256)
        return read_image(self.path)


def check_digest(path: Path, expected: str) -> None:
    """Raise DataError naming the file unless its bytes hash to `expected`."""
    if not path.is_file():
        raise DataError(f"{path}: missing", hint="reinstall datk, or restore the file from version control")
    found = sha256_file(path)
    if found != expected:
        raise DataError(
            f"{path}: changed since it was listed (sha256 {found[:12]}…, expected {expected[:12]}…)",
            hint="restore the file from version control, or name your own folder of photographs",
        )


def check_held_out(held_out: Sequence[Path], used: Sequence[Path]) -> None:
    """Raise DataError naming every held-out photograph whose very bytes were also used (to calibrate, to train).

    An artifact judged on pictures that its ranges were set on looks better than it is.
    """
    seen = {sha256_file(path): path for path in used}
    both = [path for path in held_out if sha256_file(path) in seen]
    if both:
        names = ", ".join(p.name for p in both[:5]) + (f" and {len(both) - 5} more" if len(both) > 5 else "")
        raise DataError(
            f"{len(both)} of {len(held_out)} photographs to judge on were also used to calibrate or train: {names}",
            hint="name another folder for one of the two",
        )


def builtin_folder() -> Path:
    """The real folder of the photographs that ship with datk, in a checkout as in an installed wheel."""
    import datk.calibration_data

    return Path(next(iter(datk.calibration_data.__path__))).resolve()


def builtin_photos(split: Split) -> list[PhotoFile]:
    """The built-in photographs of one split, every file checked against its hash.

    `calibration` is part of `train`; `validation` shares no place, scene or near-duplicate with either. The order
    interleaves the sources, so the first n of a split are a fair sample of it.
    Raises DataError naming a file that is missing or changed, or an unknown split.
    """
    if split not in SPLITS:
        raise DataError(f"no split named '{split}'", hint=f"known: {', '.join(SPLITS)}")
    return list(_checked(builtin_folder(), split))


@cache
def _checked(folder: Path, split: Split) -> tuple[PhotoFile, ...]:
    photos = read_index(folder, split)
    for photo in photos:
        check_digest(photo.path, photo.sha256)
    return tuple(photos)


def read_index(folder: Path, split: Split) -> list[PhotoFile]:
    """Entries of one split of folder/index.json, files not yet looked at. Raises DataError when there is none."""
    index = folder / "index.json"
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))["photos"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{index}: not a readable photograph index ({error})", hint="reinstall datk") from error
    wanted = [e for e in entries if (e["calibration"] if split == "calibration" else e["split"] == split)]
    return [
        PhotoFile(
            path=folder / e["file"], sha256=e["sha256"], licence=e["licence"], credit=e["credit"], source=e["source"]
        )
        for e in wanted
    ]
