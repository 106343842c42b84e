"""`datk data check` for sources of unlabelled images: how many, what sizes, which cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from datk.data.order import permuted
from datk.data.sources import KINDS, open_images
from datk.data.sources.presets import PRESETS
from datk.errors import DataError
from datk.pipeline.data_check import SHEET_PAIRS, read_ahead, write_tiles

_SHOWN = 5


class ImagesReport(BaseModel):
    """What was found. `problems` empty means everything that was read could be read."""

    source: str
    licence: str
    images: int
    paper_images: int | None
    files_read: int = 0
    unreadable: list[str] = Field(default_factory=list)
    sizes: dict[str, int] = Field(default_factory=dict)
    """height x width -> images, of those read, most frequent first."""
    notes: list[str] = Field(default_factory=list)
    sheet: str | None = None

    def rows(self) -> list[list[str]]:
        """For people."""
        sizes = ", ".join(f"{s}: {n}" for s, n in list(self.sizes.items())[:_SHOWN])
        more = f" and {len(self.sizes) - _SHOWN} other sizes" if len(self.sizes) > _SHOWN else ""
        return [
            ["source", self.source],
            ["licence", self.licence],
            ["images", f"{self.images:,}"],
            ["images read", f"{self.files_read:,}"],
            ["unreadable", f"{len(self.unreadable):,}"],
            ["sizes (height x width)", (sizes or "-") + more],
            ["contact sheet", self.sheet or "-"],
        ]

    @property
    def problems(self) -> list[str]:
        """What is wrong, one sentence each."""
        return self.unreadable


def is_source(name: str) -> bool:
    """Whether a name is a kind of image source or one of the paper's unlabelled sets."""
    return name in KINDS or name in PRESETS


def check_images(
    where: str,
    name: str,
    *,
    sample: int | None = 100,
    sheet: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImagesReport:
    """Look at images as a kind of source or a preset; `where` as in NAME:WHERE of open_images.

    sample: images to read, spread over the source; None reads all, 0 none. Raises DataError when nothing is there.
    """
    source = open_images(f"{name}:{where}")
    preset = PRESETS.get(name)
    report = ImagesReport(
        source=source.name,
        licence=preset.licence if preset else "not stated",
        images=len(source),
        paper_images=preset.paper_images if preset else None,
    )
    count = len(source) if sample is None else min(sample, len(source))
    chosen = range(count) if count == len(source) else [permuted(i, len(source), 0) for i in range(count)]
    sizes, shown = Counter[str](), list[NDArray[np.uint8]]()
    for done, image in enumerate(read_ahead(source.read, chosen), start=1):
        if isinstance(image, DataError):
            report.unreadable.append(image.message)
        else:
            sizes[f"{image.shape[0]}x{image.shape[1]}"] += 1
            if len(shown) < 2 * SHEET_PAIRS:
                shown.append(image)
        if progress is not None:
            progress(done, count)
    report.files_read, report.sizes = count, dict(sizes.most_common())
    if sheet is not None and shown:
        write_tiles(sheet, [[image] for image in shown])
        report.sheet = str(sheet)
    if preset is not None and len(source) < 0.95 * preset.paper_images:
        report.notes.append(f"{len(source):,} images; the paper used about {preset.paper_images:,}")
    if count < len(source):
        report.notes.append(f"read {count} of {len(source)} images; --all reads every file")
    return report
