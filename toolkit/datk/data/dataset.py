"""Labelled data as the trainer sees it: open_dataset(name, folder) and mixtures of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from datk.data.adapters import get
from datk.data.adapters.base import Adapter, Item
from datk.data.order import Mixture
from datk.data.sample import Sample
from datk.errors import DataError, UsageError
from datk.measure.phases import phase


class DepthDataset(Protocol):
    """Images with depth that can be read by number, in any order, from several threads or processes."""

    def __len__(self) -> int: ...

    def key(self, index: int) -> str:
        """Unique name of a sample within the set."""

    def read(self, index: int) -> Sample:
        """Decode a sample. Raises DataError naming a file that is missing, damaged or not what the format says."""


@dataclass(frozen=True)
class AdaptedDataset:
    """The complete pairs of a folder, read through its adapter. `left_out`: reasons and counts, for the manifest."""

    adapter: Adapter
    items: tuple[Item, ...]
    left_out: tuple[tuple[str, int], ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    """With allow_missing: image -> which file of the pair is not there."""

    @property
    def name(self) -> str:
        return self.adapter.name

    def __len__(self) -> int:
        return len(self.items)

    def key(self, index: int) -> str:
        return self.items[index].key

    def read(self, index: int) -> Sample:
        item = self.items[index]
        with phase("decode"):
            sample = self.adapter.read(item)
        return replace(sample, scene=item.scene, split=item.split, licence=sample.licence or self.adapter.licence)


def open_dataset(
    name: str, folder: Path, split: str | None = None, *, listing: Path | None = None, allow_missing: bool = False
) -> AdaptedDataset:
    """The samples of a folder laid out as the named data set (see `datk data list`).

    split: only that split, or part of one ("val" takes "val/indoors"). listing: only the images named in this text
    file, first word of each line, relative to the folder (or ending in such a path).
    allow_missing: leave incomplete pairs out, counted in `left_out`; otherwise they are an error that names them.
    Raises UsageError for an unknown set or split, DataError when the folder is not laid out so.
    """
    adapter = get(name)
    scan = adapter.scan(Path(folder))
    items = scan.items
    if split is not None:
        items = tuple(i for i in items if i.split == split or i.split.startswith(f"{split}/"))
        if not items:
            known = sorted({i.split for i in scan.items if i.split})
            hint = f"known: {', '.join(known)}" if known else adapter.splits_hint or "its paths say nothing of splits"
            raise UsageError(f"{folder}: no split '{split}' of {adapter.title}", hint=hint)
    if listing is not None:
        items = _listed(items, listing)
    if scan.missing and not allow_missing:
        raise DataError(scan.missing_text(), hint=f"see all: datk data check {folder} --as {name}")
    left_out = dict(scan.left_out)
    if scan.missing:
        left_out["incomplete pairs"] = len(scan.missing)
    return AdaptedDataset(adapter, items, tuple(left_out.items()), tuple((m.have, m.text()) for m in scan.missing))


def _listed(items: Sequence[Item], listing: Path) -> tuple[Item, ...]:
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{listing}: not a readable list ({error})", hint="one image path a line, UTF-8") from error
    wanted = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    by_key = {item.key: item for item in items}
    by_tail: dict[str, Item] = {}
    for item in items:
        parts = item.key.split("/")
        for start in range(len(parts)):
            by_tail.setdefault("/".join(parts[start:]), item)
    found = [by_key.get(path) or _by_longest_tail(path, by_tail) for path in wanted]
    unknown = [path for path, item in zip(wanted, found, strict=True) if item is None]
    if unknown or not wanted:
        first = f"first '{unknown[0]}'" if unknown else "it names nothing"
        raise DataError(f"{listing}: {len(unknown)} of {len(wanted)} paths are not in the data set, {first}")
    return tuple(item for item in found if item is not None)


def _by_longest_tail(path: str, by_tail: dict[str, Item]) -> Item | None:
    """A list may be relative to a folder above or below: match on the longest common end of at least two parts."""
    parts = path.strip("/").split("/")
    for start in range(len(parts) - 1):
        item = by_tail.get("/".join(parts[start:]))
        if item is not None:
            return item
    return None


class MixedDataset:
    """Several sets read as one. `at(position)` gives the order (see datk.data.order.Mixture); read(at(p)) the sample.

    Without weights: plain concatenation, the paper's way. Each part keeps its own names: SET/KEY.
    """

    def __init__(
        self, parts: Sequence[tuple[str, DepthDataset]], *, weights: Sequence[float] | None = None, seed: int = 0
    ) -> None:
        names = [name for name, _ in parts]
        if len(set(names)) < len(names):
            raise UsageError(f"mixture: two parts have the same name in {names}")
        self.parts = tuple(parts)
        self.mixture = Mixture(
            tuple(len(d) for _, d in parts), tuple(weights) if weights is not None else None, seed=seed
        )

    def __len__(self) -> int:
        return len(self.mixture)

    def at(self, position: int) -> int:
        """Index of the sample at a position of the endless order."""
        return self.mixture.at(position)

    def key(self, index: int) -> str:
        part, inner = self.mixture.locate(index)
        name, dataset = self.parts[part]
        return f"{name}/{dataset.key(inner)}"

    def read(self, index: int) -> Sample:
        part, inner = self.mixture.locate(index)
        return self.parts[part][1].read(inner)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Samples of each part."""
        return {name: len(dataset) for name, dataset in self.parts}
