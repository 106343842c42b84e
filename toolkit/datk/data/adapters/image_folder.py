"""Any folder of photographs, for pseudo-labels, calibration or validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datk.artifact.files import sha256_file
from datk.data.photos import PhotoFile
from datk.depth.preprocess import list_images, read_image
from datk.errors import DataError

UNKNOWN_LICENCE = "not stated"
_LISTED = 10


@dataclass(frozen=True)
class Unreadable:
    """A file that has a picture's suffix but is not a picture, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class ImageFolder:
    """What a folder holds: photographs in path order, and the files put aside."""

    photos: tuple[PhotoFile, ...]
    quarantined: tuple[Unreadable, ...]


def read_image_folder(
    folder: Path,
    *,
    licence: str = UNKNOWN_LICENCE,
    on_unreadable: Literal["raise", "quarantine"] = "raise",
    progress: Callable[[int, int], None] | None = None,
) -> ImageFolder:
    """Find, decode once and hash every picture below folder.

    Raises DataError when the folder is missing, holds no picture, holds no readable one, or, with `raise`, listing
    every unreadable file. With `quarantine` those come back by name for the caller to record: never dropped silently.
    """
    paths = list_images(folder)
    photos: list[PhotoFile] = []
    bad: list[Unreadable] = []
    for done, path in enumerate(paths, start=1):
        try:
            read_image(path)
        except DataError as error:
            bad.append(Unreadable(path, error.message))
        else:
            photos.append(PhotoFile(path=path, sha256=sha256_file(path), licence=licence, source=str(folder)))
        if progress is not None:
            progress(done, len(paths))
    if bad and (on_unreadable == "raise" or not photos):
        names = "\n".join(f"  {b.reason}" for b in bad[:_LISTED])
        more = f"\n  and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
        raise DataError(
            f"{folder}: {len(bad)} of {len(paths)} pictures cannot be read\n{names}{more}",
            hint="remove or repair these files",
        )
    return ImageFolder(tuple(photos), tuple(bad))
