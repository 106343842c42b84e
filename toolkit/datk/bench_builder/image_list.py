"""images.csv: which picture belongs to which scene, where it is from, under which licence. Fetching is the user's."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datk.depth.preprocess import IMAGE_SUFFIXES
from datk.errors import DataError

IMAGES_CSV = "images.csv"
HEADER = ("scene", "file", "url", "licence", "source", "keyword")
"""`file` is the name below images/<scene>/; `source` the page and author to credit; `keyword` may be empty."""


@dataclass(frozen=True, kw_only=True)
class ListedImage:
    """One line of images.csv."""

    scene: str
    file: str
    url: str
    licence: str
    source: str
    keyword: str = ""

    @property
    def path(self) -> str:
        """Relative to the benchmark's folder, as annotations.json names it."""
        return f"images/{self.scene}/{self.file}"


@dataclass(frozen=True, kw_only=True)
class ImageCount:
    """Where one scene stands."""

    target: int
    listed: int
    on_disk: int


@dataclass(frozen=True, kw_only=True)
class ImageList:
    """images.csv beside what is on disk."""

    present: tuple[ListedImage, ...]
    """Listed with licence and on disk: what a benchmark may be built from."""
    missing: tuple[ListedImage, ...]
    """Listed but not fetched yet."""
    unlisted: tuple[str, ...]
    """On disk without a line: of unknown licence, so never used."""

    def counts(self, targets: dict[str, int]) -> dict[str, ImageCount]:
        """Per scene, in the order of targets (from Plan.targets)."""
        there = Counter(i.scene for i in self.present)
        absent = Counter(i.scene for i in self.missing)
        return {s: ImageCount(target=n, listed=there[s] + absent[s], on_disk=there[s]) for s, n in targets.items()}


def read_image_list(folder: Path, *, scenes: Collection[str]) -> ImageList:
    """Read folder/images.csv and look which of its pictures are below folder/images.

    Raises DataError listing (up to ten) lines that name an unknown scene, no licence, no source, a file name with
    folders in it or an ending that is no picture's, or a file twice.
    """
    path = folder / IMAGES_CSV
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})", hint=f"start one: datk bench plan {folder}") from error
    reader = csv.DictReader(text.splitlines())
    if absent := [c for c in HEADER[:5] if c not in (reader.fieldnames or ())]:
        raise DataError(f"{path}: lacks the column{'s' if len(absent) > 1 else ''} {', '.join(absent)}")
    problems: list[str] = []
    images: dict[str, ListedImage] = {}
    for row in reader:
        image = _image(row)
        wrong = _wrong(image, scenes)
        if image.path in images:
            wrong.append(f"{image.path} is listed twice")
        problems += [f"line {reader.line_num}: {w}" for w in wrong]
        images[image.path] = image
    if problems:
        more = [f"and {len(problems) - 10} more"] if len(problems) > 10 else []
        raise DataError("\n  ".join([f"{path}: {len(problems)} problems", *problems[:10], *more]))
    there = {p: i for p, i in images.items() if (folder / p).is_file()}
    return ImageList(
        present=tuple(there.values()),
        missing=tuple(i for p, i in images.items() if p not in there),
        unlisted=tuple(p for p in _on_disk(folder) if p not in images),
    )


def _image(row: dict[str, str]) -> ListedImage:
    return ListedImage(**{name: (row.get(name) or "").strip() for name in HEADER})


def _wrong(image: ListedImage, scenes: Collection[str]) -> list[str]:
    wrong = []
    if image.scene not in scenes:
        wrong.append(f"scene '{image.scene}' is not in plan.yaml (known: {', '.join(scenes)})")
    name = PurePosixPath(image.file)
    if not image.file or name.name != image.file or "\\" in image.file or image.file in (".", ".."):
        wrong.append(f"file '{image.file}': expected a plain name; the folder is the scene's")
    elif name.suffix.lower() not in IMAGE_SUFFIXES:
        wrong.append(f"file '{image.file}': expected an ending of {', '.join(IMAGE_SUFFIXES)}")
    wrong += [
        f"{image.file or 'a picture'} has no {what}" for what in ("licence", "source") if not getattr(image, what)
    ]
    return wrong


def _on_disk(folder: Path) -> list[str]:
    found = (p for p in (folder / "images").glob("*/*") if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(p.relative_to(folder).as_posix() for p in found)
