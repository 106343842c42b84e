"""Pseudo-labels of several teachers for the same photographs; for each image of the stream one teacher is drawn.

Source: Distill-Any-Depth (arXiv 2502.19204): of two teachers one is chosen at random in every iteration, 7:3; averaging
their maps instead spoils the student. Here the draw is made for each image from its place in the order, so it depends
neither on the number of processes nor on a restart, and differs from epoch to epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from datk.data.sources import ImageSource
from datk.errors import DataError, UsageError
from datk.train.labelling.read import LabelFolder, images_of
from datk.train.samples import TrainingSample
from datk.train.sources import PseudoLabelSource


@dataclass(frozen=True)
class SeveralTeachers:
    """sources: one a teacher, the same photographs under the same numbers. shares: of each, need not sum to 1."""

    sources: Sequence[PseudoLabelSource]
    shares: Sequence[float]

    def key(self, index: int) -> str:
        """The photograph's name in its source."""
        return self.sources[0].key(index)

    def __len__(self) -> int:
        return len(self.sources[0])

    def load(self, index: int) -> TrainingSample:
        """The first teacher's."""
        return self.sources[0].load(index)

    def load_drawn(self, index: int, rng: np.random.Generator) -> TrainingSample:
        """One teacher's, drawn by share."""
        limits = np.cumsum(self.shares) / np.sum(self.shares)
        return self.sources[int(np.searchsorted(limits[:-1], rng.random(), side="right"))].load(index)


LabelSource = PseudoLabelSource | SeveralTeachers


def several_teachers(
    labels: Sequence[LabelFolder], images: ImageSource | None, shares: Sequence[float] | None
) -> LabelSource:
    """The labels of one or several teachers as one source: the photographs that all of them have labelled usably.

    images: what they were made from; None: opened where the first were made. Raises UsageError when shares and folders
    do not belong together, DataError when the folders label different sources or no photograph is common.
    """
    if len(labels) != len(shares or (1.0,)):
        wanted = "one folder of pseudo-labels" if shares is None else f"{len(shares)} folders of pseudo-labels"
        raise UsageError(
            f"student.teacher_weights asks for {wanted}, {len(labels)} given",
            hint="one share for each teacher's folder, such as teacher_weights: [7, 3]",
        )
    images = images or images_of(labels[0])
    if shares is None or len(labels) == 1:
        return PseudoLabelSource(labels[0], images)
    hint = "label the same photographs with every teacher"
    if len({folder.images_sha256 for folder in labels}) > 1:
        raise DataError("the teachers have labelled different sources of photographs", hint=hint)
    common = reduce(np.intersect1d, [folder.numbers for folder in labels])
    if len(common) == 0:
        raise DataError("the teachers have labelled no photograph in common", hint=hint)
    sources = [PseudoLabelSource(folder, images, np.searchsorted(folder.numbers, common)) for folder in labels]
    return SeveralTeachers(sources, tuple(shares))
