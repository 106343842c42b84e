"""The photographs a stage works on: the shipped split or the user's folder, with their hash and licence."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datk.artifact.files import sha256_file, sha256_json
from datk.depth.preprocess import list_images

Split = Literal["train", "calibration", "validation"]


@dataclass(frozen=True)
class PhotoSet:
    """A list of files in a fixed order."""

    paths: list[Path]
    names: list[str]
    sha256: str
    """Of the sorted list of file digests."""
    licence: str


def photo_set(source: str, split: Split, count: int | None, *, seed: int) -> PhotoSet:
    """Up to `count` photographs, chosen by seed, of the shipped split ("builtin") or of a folder.

    Raises DataError when the folder is missing, empty or holds a changed shipped file.
    """
    if source == "builtin":
        from datk.data.photos import builtin_photos

        found = [(p.path, p.path.name, p.sha256, p.licence) for p in builtin_photos(split)]
    else:
        root = Path(source)
        found = [(p, p.relative_to(root).as_posix(), sha256_file(p), "the user's own") for p in list_images(root)]
    if count is not None and count < len(found):
        found = sorted(random.Random(seed).sample(found, count), key=lambda item: item[1])
    return PhotoSet(
        paths=[f[0] for f in found],
        names=[f[1] for f in found],
        sha256=sha256_json(sorted(f[2] for f in found)),
        licence="; ".join(sorted({f[3] for f in found})),
    )
