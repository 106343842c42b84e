"""Data sets as training reads them: one of them, several mixed, bad files quarantined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datk.data.dataset import DepthDataset
from datk.data.order import Mixture
from datk.data.quarantine import Quarantine, QuarantiningSource
from datk.errors import UsageError
from datk.train.samples import SampleSource, TrainingSample, load_drawn


@dataclass(frozen=True)
class DatasetSource:
    """A data set with depth: target = inverse depth, min-max 0..1 over the whole map, sky 0 and valid."""

    dataset: DepthDataset

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, index: int) -> TrainingSample:
        """Raises DataError naming a file that is bad, or an image of which no depth is known."""
        sample = self.dataset.read(index)
        disparity, valid = sample.target()
        return TrainingSample(sample.image, disparity, valid)


def quarantining(dataset: DepthDataset, quarantine: Quarantine) -> QuarantiningSource[TrainingSample]:
    """A data set of which bad files are listed and replaced instead of ending the run."""
    source = DatasetSource(dataset)
    return QuarantiningSource(source.load, count=len(dataset), key=dataset.key, quarantine=quarantine)


class MixedSource:
    """Several sources read as one, in an order that is a pure function of the position: Batches(..., order=mixed.at).

    Without weights: plain concatenation, every sample once an epoch (the paper's way). With weights: shares, exact in
    every 1,000 positions; see datk.data.order.Mixture.
    """

    def __init__(
        self, parts: Sequence[tuple[str, SampleSource]], *, weights: Sequence[float] | None = None, seed: int = 0
    ) -> None:
        self.names = tuple(name for name, _ in parts)
        if len(set(self.names)) < len(self.names):
            raise UsageError(f"mixture: two parts have the same name in {list(self.names)}")
        self.sources = tuple(source for _, source in parts)
        lengths = tuple(len(s) for s in self.sources)
        self.mixture = Mixture(lengths, tuple(weights) if weights is not None else None, seed=seed)

    def __len__(self) -> int:
        return len(self.mixture)

    def at(self, position: int) -> int:
        """Number of the sample at a position of the endless order."""
        return self.mixture.at(position)

    def part_of(self, index: int) -> str:
        """Name of the part a number belongs to."""
        return self.names[self.mixture.locate(index)[0]]

    def load(self, index: int) -> TrainingSample:
        part, inner = self.mixture.locate(index)
        return self.sources[part].load(inner)

    def load_drawn(self, index: int, rng: np.random.Generator) -> TrainingSample:
        """As load; a part that has a choice (several teachers) draws with rng."""
        part, inner = self.mixture.locate(index)
        return load_drawn(self.sources[part], inner, rng)
