"""The order samples are seen in: a pure function of one counter, whatever the number of samples, ranks or workers.

No state, no table: sample `position` of an endless stream is computed, so resuming needs the counter alone, and rank r
of W simply takes the positions r, r + W, r + 2W, ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from datk.errors import UsageError

_MASK = (1 << 64) - 1
_ROUNDS = 6
_BLOCK = 1000
"""Positions of a weighted mixture in which every part gets its exact share."""


def _mix(value: int) -> int:
    """A bijection of 64-bit numbers that scatters neighbours (splitmix64, Steele et al. 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def permuted(index: int, count: int, *key: int) -> int:
    """Where a keyed permutation of 0..count - 1 sends `index`; O(1) time and memory at any count.

    A Feistel network over the next even number of bits, walked along its cycle until the value is below count
    (Black and Rogaway 2002).
    """
    if not 0 <= index < count:
        raise IndexError(f"{index} of {count}")
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    seed = 0
    for part in key:
        seed = _mix(seed ^ (part & _MASK))
    value = index
    while True:
        left, right = value >> half, value & low
        for turn in range(_ROUNDS):
            left, right = right, left ^ (_mix(right ^ _mix(seed + turn)) & low)
        value = left << half | right
        if value < count:
            return value


def index_at(position: int, count: int, seed: int) -> int:
    """Which of `count` samples stands at a position of the endless order; every epoch is a permutation of its own."""
    return permuted(position % count, count, seed, position // count)


@dataclass(frozen=True)
class Mixture:
    """The order of several sets read as one. lengths: samples of each. weights: share of each, or None.

    Without weights the sets are concatenated, as in the paper: every sample is seen once an epoch, no balancing. With
    weights every block of 1,000 positions holds each set's share (rounded to 1/1000, at least one), spread within the
    block at random; a set's own samples come round in whole epochs of its own. Raises UsageError on empty sets or
    weights that are no shares.
    """

    lengths: tuple[int, ...]
    weights: tuple[float, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < 1:
            raise UsageError(f"mixture of sets with {list(self.lengths)} samples: every set needs at least one")
        if self.weights is None:
            return
        if len(self.weights) != len(self.lengths):
            raise UsageError(f"{len(self.weights)} weights for {len(self.lengths)} sets")
        if not all(np.isfinite(w) and w > 0 for w in self.weights):
            raise UsageError(f"weights {list(self.weights)}: expected positive numbers", hint="leave a set out instead")

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First number of each set in the concatenation."""
        return (0, *accumulate(self.lengths))[:-1]

    def __len__(self) -> int:
        return sum(self.lengths)

    def locate(self, index: int) -> tuple[int, int]:
        """(set, index within it) of a number of the concatenation."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(np.array(self.starts), index, side="right")) - 1
        return part, index - self.starts[part]

    def at(self, position: int) -> int:
        """Number in the concatenation of the sample at a position of the endless order."""
        if self.weights is None:
            return index_at(position, len(self), self.seed)
        block, within = divmod(position, _BLOCK)
        slots = _slots(self.quotas, self.seed, block)
        part = int(slots[within])
        rank = block * self.quotas[part] + int((slots[:within] == part).sum())
        length = self.lengths[part]
        return self.starts[part] + permuted(rank % length, length, self.seed, part + 1, rank // length)

    @cached_property
    def quotas(self) -> tuple[int, ...]:
        """Positions of each set in a block: its share by largest remainder, at least one."""
        assert self.weights is not None
        exact = np.array(self.weights) / sum(self.weights) * _BLOCK
        quotas = np.maximum(np.floor(exact), 1).astype(int)
        while quotas.sum() < _BLOCK:
            quotas[int(np.argmax(exact - quotas))] += 1
        while quotas.sum() > _BLOCK:
            quotas[int(np.argmax(quotas))] -= 1
        return tuple(int(q) for q in quotas)


@lru_cache(maxsize=64)
def _slots(quotas: Sequence[int], seed: int, block: int) -> NDArray[np.int64]:
    """Which set each position of a block belongs to."""
    ordered = np.repeat(np.arange(len(quotas)), quotas)
    return np.random.default_rng([seed & 0xFFFFFFFF, 7, block]).permutation(ordered)
