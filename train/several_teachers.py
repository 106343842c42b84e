"""Pseudo-labels of several teachers for the same photographs; for each image of the stream one teacher is drawn.

Source: Distill-Any-Depth (arXiv 2502.19204): of two teachers one is chosen at random in every iteration, 7:3; averaging
their maps instead spoils the student. Here the draw is made for each image from its place in the order, so it depends
neither on the number of processes nor on a restart, and differs from epoch to epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datk.errors import DataError, UsageError
from datk.train.samples import TrainingSample
from datk.train.sources import LabelledPhoto, PseudoLabelSource


@dataclass(frozen=True)
class SeveralTeachers:
    """sources: one a teacher, the same photographs under the same numbers. shares: of each, need not sum to 1."""

    sources: Sequence[PseudoLabelSource]
    shares: Sequence[float]

    @property
    def photos(self) -> Sequence[LabelledPhoto]:
        """The photographs with the first teacher's labels."""
        return self.sources[0].photos

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


def several_teachers(labels: Sequence[Sequence[LabelledPhoto]], shares: Sequence[float] | None) -> LabelSource:
    """The labels of one or several teachers as one source: the photographs that all of them have labelled usably.

    Raises UsageError when shares and lists of labels do not belong together, DataError when no photograph is common.
    """
    if len(labels) != len(shares or (1.0,)):
        wanted = "one folder of pseudo-labels" if shares is None else f"{len(shares)} folders of pseudo-labels"
        raise UsageError(
            f"student.teacher_weights asks for {wanted}, {len(labels)} given",
            hint="one share for each teacher's folder, such as teacher_weights: [7, 3]",
        )
    if shares is None or len(labels) == 1:
        return PseudoLabelSource(labels[0])
    by_image = [{photo.image_path: photo for photo in listed} for listed in labels]
    common = [path for path in by_image[0] if all(path in others for others in by_image[1:])]
    if not common:
        raise DataError(
            "the teachers have labelled no photograph in common", hint="label the same photographs with every teacher"
        )
    return SeveralTeachers([PseudoLabelSource([known[path] for path in common]) for known in by_image], tuple(shares))
