"""Pseudo-labels of several sources put end to end: the paper's eight unlabelled sets, each labelled by itself."""

from __future__ import annotations

from collections.abc import Sequence

from datk.data.order import Mixture
from datk.train.samples import TrainingSample
from datk.train.sources import PseudoLabelSource


class EndToEnd:
    """Sources one after the other, no balancing; numbers of the second begin where the first ends."""

    def __init__(self, sources: Sequence[PseudoLabelSource]) -> None:
        self.sources = tuple(sources)
        self._mixture = Mixture(tuple(len(source) for source in sources))

    def __len__(self) -> int:
        return len(self._mixture)

    def key(self, index: int) -> str:
        """SOURCE: IMAGE."""
        part, inner = self._mixture.locate(index)
        return f"{self.sources[part].images.name}: {self.sources[part].key(inner)}"

    def load(self, index: int) -> TrainingSample:
        part, inner = self._mixture.locate(index)
        return self.sources[part].load(inner)
