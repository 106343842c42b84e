"""A training's source of samples that outlives bad files: each is listed, counted and replaced by a fixed other one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from datk.data.quarantine import Quarantine, QuarantiningSource, default_limit
from datk.train.samples import SampleSource, TrainingSample, load_drawn

FILE_NAME = "quarantine.jsonl"


class KeyedSource(SampleSource, Protocol):
    """A source that can say a sample's number in words."""

    def key(self, index: int) -> str: ...


@dataclass(frozen=True)
class Guarded:
    """source without its bad files.

    All processes share the list. load, load_drawn: DataError only when more files are bad than quarantine.limit.
    """

    source: KeyedSource
    quarantine: Quarantine

    def __len__(self) -> int:
        return len(self.source)

    def key(self, index: int) -> str:
        return self.source.key(index)

    def load(self, index: int) -> TrainingSample:
        return self._readable(self.source.load).load(index)

    def load_drawn(self, index: int, rng: np.random.Generator) -> TrainingSample:
        return self._readable(lambda number: load_drawn(self.source, number, rng)).load(index)

    def _readable(self, read: Callable[[int], TrainingSample]) -> QuarantiningSource[TrainingSample]:
        return QuarantiningSource(read, count=len(self.source), key=self.key, quarantine=self.quarantine)


def guarded(source: KeyedSource, out: Path) -> Guarded:
    """source, its bad files listed in out/quarantine.jsonl: one in a thousand, at least 100, before a run stops."""
    return Guarded(source, Quarantine(out / FILE_NAME, limit=default_limit(len(source))))
