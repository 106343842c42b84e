"""What an artifact computed on one photograph, ready to be searched."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datk.evaluate.divergence.layouts import Layout, as_wanted, layouts
from datk.targets.trace import TracedTensor

SAME = 1.5
"""Among copies of one value the earliest is taken; copies differ in error by less than this factor."""
TINY = 1e-7
ROUNDING = 1.5
"""A kernel may be off by this many times what rounding to its result's integers costs; ties and fixed-point sums."""


@dataclass(frozen=True)
class Match:
    """An artifact's tensor that plays a torch tensor's part."""

    tensor: str
    layout: Layout
    error: float
    """Relative: |stored - expected| / |expected|, L2 over all values."""
    rounding: float = 0.0
    """The part of it that rounding to the tensor's integers alone would cause, in the mean."""
    twins: frozenset[str] = frozenset()
    """Every tensor that holds it as well as this one: what follows may have been computed from any of them."""

    def beyond(self, roundings: int) -> float:
        """The error that so many roundings to such steps, independent of each other, do not explain."""
        return math.sqrt(max(0.0, self.error**2 - roundings * (ROUNDING * self.rounding) ** 2))

    @property
    def group(self) -> frozenset[str]:
        return self.twins | {self.tensor}


Sources = frozenset[frozenset[str]]
"""What a value was computed from: of each group of equal tensors, one."""


class Seen:
    """The tensors of an artifact by name, with values; who reads what; searched by value, never by name."""

    def __init__(
        self, tensors: Sequence[TracedTensor], input_name: str, values: Mapping[str, NDArray[np.float32]]
    ) -> None:
        self.tensors = {t.name: t for t in tensors}
        self.values = {name: v for name, v in values.items() if np.isfinite(v).all()}
        self.not_finite = [t.name for t in tensors if t.name in values and t.name not in self.values]
        self.order = {name: i for i, name in enumerate([input_name, *self.tensors])}
        self._ancestors = {input_name: 1}
        for t in tensors:
            mask = 1 << self.order[t.name]
            for name in t.reads:
                mask |= self._ancestors.get(name, 0)
            self._ancestors[t.name] = mask
        self._norm = {name: float(np.linalg.norm(v)) for name, v in self.values.items()}
        self._by_count: dict[int, list[str]] = {}
        for t in tensors:
            if t.name in self.values:
                self._by_count.setdefault(self.values[t.name].size, []).append(t.name)

    def counts(self) -> set[int]:
        """How many numbers the tensors with values hold."""
        return set(self._by_count)

    def comes_from(self, name: str, sources: Sources) -> bool:
        """Whether a tensor is, or is computed from, one of each group of sources."""
        mask = self._ancestors[name]
        return all(any(mask >> self.order[s] & 1 for s in group) for group in sources)

    def best(self, wanted: NDArray[np.float32], sources: Sources, tolerance: float) -> Match | None:
        """The tensor computed from sources that holds wanted within tolerance; of equals the first, and as it is."""
        size = float(np.linalg.norm(wanted))
        if size == 0.0:
            return None
        found: list[Match] = []
        for name in self._by_count.get(wanted.size, ()):
            if abs(self._norm[name] - size) > tolerance * size or not self.comes_from(name, sources):
                continue
            found += [m for m in self.errors(name, wanted, size) if m.error <= tolerance]
        if not found:
            return None
        least = min(m.error for m in found)
        near = [m for m in found if m.error <= max(SAME * least, TINY)]
        first = min(near, key=lambda m: (m.layout != (), self.order[m.tensor]))
        return replace(first, twins=frozenset(m.tensor for m in near))

    def in_place_of(self, wanted: NDArray[np.float32], sources: Sources) -> list[Match]:
        """Tensors that could be what the artifact has for wanted, right or wrong: by shape and place, in order."""
        size = float(np.linalg.norm(wanted)) or 1.0
        found = []
        given = {name for group in sources for name in group}
        for name in self._by_count.get(wanted.size, ()):
            if name not in given and self.comes_from(name, sources):
                options = list(self.errors(name, wanted, size))
                alike = _sides(self.values[name].shape) == _sides(wanted.shape)
                found += options if alike else [*options[1:], options[0]]  # as it is last where the sides differ
        return found

    def value(self, match: Match, wanted: tuple[int, ...]) -> NDArray[np.float32]:
        """The matched tensor's values in torch's shape and order."""
        return np.ascontiguousarray(as_wanted(self.values[match.tensor], match.layout, wanted))

    def errors(self, name: str, wanted: NDArray[np.float32], size: float) -> Iterator[Match]:
        """How well a tensor holds wanted (of L2 norm size) in each possible layout."""
        stored = self.values[name]
        rounding = self.tensors[name].step * math.sqrt(stored.size / 12) / size if name in self.tensors else 0.0
        for layout in layouts(stored.shape, wanted.shape):
            error = float(np.linalg.norm((as_wanted(stored, layout, wanted.shape) - wanted).ravel())) / size
            yield Match(name, layout, error, rounding)


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(side for side in shape if side != 1)
