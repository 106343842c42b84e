"""The photographs a stage works on: the shipped split or the user's folder, with their hash and licence."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datk.artifact.files import sha256_file, sha256_json
from datk.data.sources import EncodedSource, ImageSource, open_images
from datk.depth.preprocess import list_images
from datk.errors import DataError

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


class PhotoSource(EncodedSource):
    """A photo set as a source of images; keys are its names, whatever folder this machine keeps them in."""

    def __init__(self, photos: PhotoSet, *, name: str) -> None:
        self._photos, self.name = photos, name

    def __len__(self) -> int:
        return len(self._photos.paths)

    def key(self, index: int) -> str:
        return self._photos.names[index]

    def encoded(self, index: int) -> bytes:
        path = self._photos.paths[index]
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error


@dataclass(frozen=True)
class TrainingImages:
    """What a student learns from."""

    source: ImageSource
    sha256: str
    """Of the files' digests; of an archive, of the names in it."""
    licence: str
    paths: list[Path]
    """The files, where each image is one."""


def training_images(spec: str, *, seed: int) -> TrainingImages:
    """The shipped training split ("builtin"), a folder, or any source that datk.data.sources opens, whole.

    Raises DataError when nothing readable is there, UsageError for a kind of source nobody knows.
    """
    if spec == "builtin" or Path(spec).is_dir():
        found = photo_set(spec, "train", None, seed=seed)
        return TrainingImages(PhotoSource(found, name=spec), found.sha256, found.licence, found.paths)
    source = open_images(spec)
    return TrainingImages(source, keys_sha256(source), "the user's own", [])


def keys_sha256(source: ImageSource) -> str:
    """Of the names of all images, in order."""
    digest = hashlib.sha256()
    for index in range(len(source)):
        digest.update(source.key(index).encode() + b"\0")
    return digest.hexdigest()
