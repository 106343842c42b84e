"""Labelled data sets as training reads them: bad files quarantined, the mixture's own order kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datk.artifact.files import sha256_file
from datk.data.dataset import MixedDataset
from datk.data.quarantine import Quarantine, QuarantiningSource, default_limit
from datk.data.sample import Sample, disparity_from_depth
from datk.errors import UsageError
from datk.train.data_sources import DatasetSource
from datk.train.guarded import FILE_NAME, Guarded, guarded
from datk.train.samples import TrainingSample
from datk.train.sources import rendered


class LabelledSets:
    """A SampleSource over a mixture of sets. folder: where the list of unreadable files is kept.

    target: what the net shall learn from a sample; None: disparity, min-max 0..1 over the map. A file that cannot be
    read is replaced by a fixed other one and listed with its reason; too many of them stop the run.
    """

    def __init__(
        self, sets: MixedDataset, folder: Path, *, target: Callable[[Sample], TrainingSample] | None = None
    ) -> None:
        self.sets, self.target = sets, target
        self.quarantine = Quarantine(folder / FILE_NAME, limit=default_limit(len(sets)))
        self._relative = DatasetSource(sets)
        self._source = QuarantiningSource(self._read, count=len(sets), key=sets.key, quarantine=self.quarantine)

    def __len__(self) -> int:
        return len(self.sets)

    def _read(self, index: int) -> TrainingSample:
        return self._relative.load(index) if self.target is None else self.target(self.sets.read(index))

    def load(self, index: int) -> TrainingSample:
        """Raises DataError when more files are bad than a run puts up with."""
        return self._source.load(index)

    def at(self, position: int) -> int:
        """Number of the sample at a position of the endless order: the sets' shares are kept there."""
        return self.sets.at(position)

    def key(self, index: int) -> str:
        """SET/IMAGE."""
        return self.sets.key(index)

    def digest(self) -> str:
        """sha256 over the names of all images and the sets' shares."""
        digest = hashlib.sha256(repr(self.sets.mixture.weights).encode())
        for index in range(len(self)):
            digest.update(self.key(index).encode() + b"\0")
        return digest.hexdigest()


LabelledSource = LabelledSets | Guarded


def labelled_source(labelled: Path | LabelledSets, out: Path) -> LabelledSource:
    """Data sets as they are; a folder as what datk.data.synthetic.generate wrote there, bad files listed in out."""
    return guarded(rendered(labelled), out) if isinstance(labelled, Path) else labelled


def labelled_digest(labelled: Path | LabelledSets) -> str:
    """sha256 that a training's fingerprint holds."""
    return sha256_file(labelled / "index.json") if isinstance(labelled, Path) else labelled.digest()


def labelled_name(labelled: Path | LabelledSets) -> str:
    """What a trained file says it has learned from."""
    return "synthetic" if isinstance(labelled, Path) else ", ".join(labelled.sets.counts)


@dataclass(frozen=True)
class MetricTarget:
    """Inverse depth in 1/m, not normalised, of the pixels whose depth lies between two bounds in metres."""

    min_m: float
    max_m: float

    def __call__(self, sample: Sample) -> TrainingSample:
        """Sky and what is out of bounds is not valid; a map may have no valid pixel. Raises UsageError for a set whose
        maps are not in metres."""
        if sample.depth_m is None:
            raise UsageError(
                f"{sample.name}: its set does not give depth in metres",
                hint="`datk data check DIR --as NAME` tells the unit of a set",
            )
        disparity, valid = disparity_from_depth(sample.depth_m)
        depth_m = np.where(valid, sample.depth_m, 0)
        return TrainingSample(sample.image, disparity, valid & (depth_m > self.min_m) & (depth_m < self.max_m))
