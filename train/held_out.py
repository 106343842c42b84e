"""A few samples kept out of training, for the validation pictures; the rest goes by numbers of its own.

Nothing is listed but the few: a source of 62 million samples costs no table.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import cast

import numpy as np

from datk.errors import DataError
from datk.train.samples import Batch, OrderedSource, SampleSource, TrainingSample, load_drawn


@dataclass(frozen=True)
class HeldOut:
    """batch: the samples, resized without augmentation, on the CPU."""

    batch: Batch


@dataclass(frozen=True)
class Chosen:
    """The samples of a source that have these numbers."""

    source: SampleSource
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.numbers)

    def load(self, index: int) -> TrainingSample:
        return self.source.load(self.numbers[index])


@dataclass(frozen=True)
class Without:
    """The samples of a source but those of these numbers (ascending), counted without gaps."""

    source: SampleSource
    left_out: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.source) - len(self.left_out)

    def number(self, index: int) -> int:
        """A sample's number in the source."""
        for left_out in self.left_out:
            if left_out > index:
                break
            index += 1
        return index

    def load(self, index: int) -> TrainingSample:
        return self.source.load(self.number(index))

    def load_drawn(self, index: int, rng: np.random.Generator) -> TrainingSample:
        return load_drawn(self.source, self.number(index), rng)


@dataclass(frozen=True)
class OrderedWithout(Without):
    """The same of a source that has an order of its own; a sample left out is replaced by the next one kept."""

    def at(self, position: int) -> int:
        number = cast(OrderedSource, self.source).at(position)
        return (number - bisect_left(self.left_out, number)) % len(self)


def hold_out(source: SampleSource, count: int) -> tuple[Without, Chosen]:
    """(what is trained on, `count` samples spread evenly over the source). Raises DataError when too few would stay."""
    if len(source) < 2 * count:
        raise DataError(
            f"{len(source)} samples: {count} cannot be held out for the validation pictures",
            hint="set schedule.pictures_every: 0, or a smaller held_out",
        )
    out = tuple(number * len(source) // count for number in range(count))
    kind = OrderedWithout if hasattr(source, "at") else Without
    return kind(source, out), Chosen(source, out)
