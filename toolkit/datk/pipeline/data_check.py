"""`datk data check`: is a folder what it is said to be? Counts, missing partners, depth figures, a contact sheet."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from datk.artifact.files import atomic_path
from datk.data import adapters
from datk.data.adapters.base import Adapter, Item
from datk.data.loading import Loader
from datk.data.order import permuted
from datk.data.sample import Sample
from datk.data.statistics import RESOLUTION, MapStatistics
from datk.depth.io_spec import DepthKind
from datk.errors import DataError, UsageError

SHEET_PAIRS, SHEET_PICTURES, TILE, GAP = 24, 8, (120, 160), 4
_SHOWN = 5

S = TypeVar("S")
T = TypeVar("T")


class CheckReport(BaseModel):
    """What was found. `problems` empty means the folder is what it is said to be."""

    data_set: str
    folder: str
    layout: str
    licence: str
    pairs: int
    paper_images: int | None
    splits: dict[str, int]
    scenes: int
    left_out: dict[str, int]
    missing: list[str] = Field(default_factory=list)
    """One sentence a file that its partner asks for."""
    unreadable: list[str] = Field(default_factory=list)
    """One sentence a file that was read and is not what it should be."""
    without_depth: list[str] = Field(default_factory=list)
    """Images of which no pixel's depth is known."""
    files_read: int = 0
    sizes: dict[str, int] = Field(default_factory=dict)
    """height x width -> images, of those read."""
    depth: dict[str, float | str | int | None] = Field(default_factory=dict)
    percentile_error: float = RESOLUTION
    notes: list[str] = Field(default_factory=list)
    sheet: str | None = None

    def rows(self) -> list[list[str]]:
        """For people: what was found, in the order one asks."""
        unit = self.depth.get("unit")
        out = [
            ["layout", self.layout],
            ["licence", self.licence],
            ["pairs", f"{self.pairs:,}"],
            *([f"split {name}", f"{count:,}"] for name, count in self.splits.items()),
            ["scenes", f"{self.scenes:,}"],
            *(["left out", f"{count:,}: {reason}"] for reason, count in self.left_out.items()),
            ["missing partners", f"{len(self.missing):,}"],
            ["pairs read", f"{self.files_read:,}"],
            ["unreadable", f"{len(self.unreadable):,}"],
            ["sizes (height x width)", ", ".join(f"{s}: {n}" for s, n in self.sizes.items()) or "-"],
        ]
        for name, value in self.depth.items():
            if isinstance(value, float):
                share = name.endswith("_fraction")
                out.append([name.removesuffix("_fraction"), f"{value:.2%}" if share else f"{value:.4g} {unit}"])
        return [*out, ["contact sheet", self.sheet or "-"]]

    @property
    def problems(self) -> list[str]:
        """What is wrong, one sentence each."""
        return [*self.missing, *self.unreadable]


def check(
    folder: Path,
    name: str,
    *,
    split: str | None = None,
    sample: int | None = 100,
    sheet: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Look at a folder as the named data set.

    sample: pairs to read, spread over the set by a fixed permutation; None reads all, 0 looks at names only.
    Raises DataError when no pair is laid out as the set's, UsageError for an unknown set or split.
    """
    adapter = adapters.get(name)
    scan = adapter.scan(folder)
    items = [i for i in scan.items if split is None or i.split == split or i.split.startswith(f"{split}/")]
    if not items:
        known = sorted({i.split for i in scan.items if i.split})
        raise UsageError(f"{folder}: no split '{split}'", hint=f"known: {', '.join(known) or 'none'}")
    report = CheckReport(
        data_set=name,
        folder=str(folder),
        layout=scan.layout,
        licence=adapter.licence,
        pairs=len(items),
        paper_images=adapter.paper_images,
        splits=dict(sorted(Counter(i.split for i in items if i.split).items())),
        scenes=len({i.scene for i in items if i.scene}),
        left_out=dict(scan.left_out),
        missing=[m.text() for m in scan.missing],
    )
    chosen = _spread(items, sample)
    shown = _read(adapter, chosen, report, progress)
    if sheet is not None and shown:
        write_sheet(sheet, shown)
        report.sheet = str(sheet)
    _remark(report, adapter)
    return report


def _spread(items: Sequence[Item], sample: int | None) -> list[Item]:
    if sample is None or sample >= len(items):
        return list(items)
    return [items[permuted(i, len(items), 0)] for i in range(sample)]


def _read(
    adapter: Adapter, items: Sequence[Item], report: CheckReport, progress: Callable[[int, int], None] | None
) -> list[Sample]:
    """Read the items into the report; the first few samples come back for the sheet."""
    statistics, sizes, shown = MapStatistics(), Counter[str](), list[Sample]()
    for done, (item, sample) in enumerate(zip(items, read_ahead(adapter.read, items), strict=True), start=1):
        if isinstance(sample, DataError):
            report.unreadable.append(sample.message)
        else:
            statistics.add(sample)
            sizes["x".join(str(s) for s in sample.image.shape[:2])] += 1
            if not sample.valid.any():
                report.without_depth.append(item.key)
            if len(shown) < SHEET_PAIRS:
                shown.append(sample)
        if progress is not None:
            progress(done, len(items))
    report.files_read, report.sizes = len(items), dict(sizes.most_common())
    if statistics.samples:
        report.depth = statistics.summary()
    return shown


def read_ahead(read: Callable[[S], T], items: Sequence[S]) -> Iterator[T | DataError]:
    """read(item) of each in order, or why it could not be read; a few threads work ahead."""

    def attempt(number: int) -> T | DataError:
        try:
            return read(items[number])
        except DataError as error:
            return error

    # in a list, because a bare error would end the loader at its place
    holders = Loader(lambda number: [attempt(number)], start=0, stop=len(items), workers=min(8, os.cpu_count() or 1))
    return (holder[0] for holder in holders)


def _remark(report: CheckReport, adapter: Adapter) -> None:
    """Things that are no errors but that one wants to know."""
    if adapter.paper_images is not None and report.pairs < 0.95 * adapter.paper_images:
        report.notes.append(f"{report.pairs:,} pairs; the paper or the protocol counts about {adapter.paper_images:,}")
    expected = f"{adapter.size[0]}x{adapter.size[1]}" if adapter.size is not None else None
    if expected is not None and report.sizes and set(report.sizes) != {expected}:
        others = ", ".join(f"{n} of {size}" for size, n in list(report.sizes.items())[:_SHOWN])
        report.notes.append(f"images of the original set are {expected}; here {others}: resized copies?")
    if report.without_depth:
        names = ", ".join(report.without_depth[:_SHOWN])
        report.notes.append(f"{len(report.without_depth)} of {report.files_read} read have no known depth: {names}")
    if report.files_read < report.pairs:
        report.notes.append(f"read {report.files_read} of {report.pairs} pairs; --all reads every file")


def write_sheet(path: Path, samples: Sequence[Sample]) -> None:
    """A JPEG of image beside disparity (near red, far and sky blue, unknown grey)."""
    from datk.report.colour import colourise

    pairs = []
    for sample in samples:
        disparity, valid = sample.inverse_depth()
        shown = np.where(valid, np.sqrt(np.maximum(disparity, 0)), np.nan)
        pairs.append([sample.image, colourise(shown, DepthKind.DISPARITY_AFFINE_INVARIANT)])
    write_tiles(path, pairs)


def write_tiles(path: Path, groups: Sequence[Sequence[NDArray[np.uint8]]]) -> None:
    """A JPEG of groups of (H, W, 3) RGB pictures, all cut to TILE, SHEET_PICTURES side by side."""
    import cv2

    height, width = TILE

    def tile(group: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        fitted = [cv2.resize(p, (width, height), interpolation=cv2.INTER_AREA) for p in group]
        row = np.concatenate([*fitted, np.full((height, GAP, 3), 255, np.uint8)], axis=1)
        return np.concatenate([row, np.full((GAP, row.shape[1], 3), 255, np.uint8)])

    tiles = [tile(g) for g in groups]
    columns = min(max(1, SHEET_PICTURES // len(groups[0])), len(tiles))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    encoded, data = cv2.imencode(".jpg", np.concatenate(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert encoded
    with atomic_path(path) as part:
        part.write_bytes(data.tobytes())
