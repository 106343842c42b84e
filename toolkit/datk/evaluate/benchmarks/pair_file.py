"""annotations.json in the layout of DA-2K.

{"images/<scene>/<file>": [{"point1": [row, col], "point2": [row, col], "closer_point": "point1"}]}, points in pixels of
the original image, the scene is the folder's name (Depth Anything V2, DA-2K.md). The order of an entry's keys is free.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from datk.errors import DataError
from datk.evaluate.benchmarks.image_store import FolderStore, ImageStore, ZipStore
from datk.evaluate.benchmarks.pairs import PairImage, PairSet, PointPair

FILE = "annotations.json"


def load_pairs(root: Path, *, name: str, notes: tuple[str, ...] = ()) -> PairSet:
    """Read root/annotations.json; root is a folder or a zip archive that holds it.

    Raises DataError that lists what does not fit the layout (up to ten entries).
    """
    path = root / FILE
    store: ImageStore = FolderStore(root) if root.is_dir() else ZipStore(root, marker=FILE)
    data = store.read(FILE)
    try:
        value = json.loads(data.decode("utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    if not isinstance(value, dict) or not value:
        raise DataError(f"{path}: expected an object of image path -> list of pairs")
    problems: list[str] = []
    images = tuple(parse_image(key, entries, problems) for key, entries in value.items())
    if problems:
        raise DataError("\n  ".join([f"{path}: {len(problems)} problems", *problems[:10]]))
    pairs = PairSet(name=name, root=root, images=images, notes=notes, store=store)
    if len(pairs.missing) == len(images):
        raise DataError(f"{root}: none of the {len(images)} annotated images is there, first {images[0].path}")
    return pairs


def parse_image(key: str, entries: Any, problems: list[str]) -> PairImage:
    """One entry of annotations.json; what is wrong is appended to problems."""
    path = PurePosixPath(key)
    if path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
        problems.append(f"{key}: expected a path such as images/<scene>/<file>")
    if not isinstance(entries, list) or not entries:
        problems.append(f"{key}: expected a list of pairs")
        entries = []
    pairs = [_pair(key, k, entry, problems) for k, entry in enumerate(entries)]
    return PairImage(key, path.parent.name, tuple(p for p in pairs if p is not None))


def _pair(key: str, k: int, entry: Any, problems: list[str]) -> PointPair | None:
    where = f"{key}[{k}]"
    if not isinstance(entry, dict):
        problems.append(f"{where}: expected an object with point1, point2 and closer_point")
        return None
    points = [entry.get("point1"), entry.get("point2")]
    for name, point in zip(("point1", "point2"), points, strict=True):
        if not (isinstance(point, list) and len(point) == 2 and all(type(v) is int for v in point)):
            problems.append(f"{where}.{name}: {point!r} is not [row, column] in whole pixels")
            return None
    closer = entry.get("closer_point")
    if closer not in ("point1", "point2"):
        problems.append(f"{where}.closer_point: {closer!r} is neither 'point1' nor 'point2'")
        return None
    first, second = ((int(p[0]), int(p[1])) for p in points if p is not None)
    return PointPair(first, second) if closer == "point1" else PointPair(second, first)
