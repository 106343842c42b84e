"""Labelled images beside pseudo-labelled ones in every batch, in a fixed pattern of the endless order.

Source: Depth Anything V1 sections 3.2 and 4.1: labelled and unlabelled images 1:2 in a batch, the unlabelled ones
strongly distorted, the two losses averaged. V2 drops the labelled ones (Table 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from datk.config.beyond_sections import LabelledSection
from datk.train.samples import Batch, Batches, stack


class MixedBatches:
    """As Batches; every `every`-th position holds a labelled image. Labelled samples are numbered after the others."""

    def __init__(self, unlabelled: Batches, labelled: Batches, every: int) -> None:
        self.unlabelled, self.labelled, self.every = unlabelled, labelled, every
        self.source, self.batch_size = unlabelled.source, unlabelled.batch_size

    def __call__(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        return self.at(range(step * self.batch_size + rank, (step + 1) * self.batch_size, ranks))

    def at(self, positions: Sequence[int]) -> Batch:
        """The images at these positions of the endless order."""
        examples = []
        for position in positions:
            turn, place = divmod(position, self.every)
            if place == 0:
                found = self.labelled.example(turn)
                examples.append(replace(found, number=found.number + len(self.unlabelled.source), labelled=True))
            else:
                found = self.unlabelled.example(turn * (self.every - 1) + place - 1)
                examples.append(replace(found, labelled=False))
        return stack(examples, positions, keep_clean=self.unlabelled.keep_clean)


def image_weights(labelled: Tensor, section: LabelledSection) -> Tensor | None:
    """(B,) weights whose mean over the endless order is 1: both sets count alike, or None where every image does.

    labelled: (B,) bool. With one image in n labelled, a labelled one weighs n / 2 and another n / (2 (n - 1)), so that
    the mean over images is half the mean over either set.
    """
    if section.average == "images":
        return None
    n = section.every
    return torch.where(labelled, n / 2, n / (2 * (n - 1)))
