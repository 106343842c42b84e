"""Training samples, the order they are seen in, and batches as a pure function of the step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datk.config.train_sections import AugmentSection
from datk.data.order import index_at
from datk.data.sample import min_max
from datk.depth.io_spec import IMAGENET_MEAN, IMAGENET_STD, Size
from datk.train.augment import augment


@dataclass(frozen=True)
class TrainingSample:
    """One picture and its target, at sizes of their own that cover the same view.

    image: (H, W, 3) uint8 RGB. disparity: (h, w) float32, larger is nearer, up to scale and shift; min-max 0..1 over
    the valid pixels. valid: (h, w) bool.
    """

    image: NDArray[np.uint8]
    disparity: NDArray[np.float32]
    valid: NDArray[np.bool_]


class SampleSource(Protocol):
    """A set of samples that can be read by number, from several threads."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> TrainingSample: ...


@dataclass(frozen=True)
class Batch:
    """image: (B, 3, h, w) float32 normalised. clean: the same without colour changes, or the same object.

    target: (B, h, w) float32 disparity 0..1, larger is nearer. valid: (B, h, w) bool. positions: places in the endless
    order, one an image: whatever is drawn at random for an image is drawn from its position and the seed alone, so
    that it depends neither on the number of processes nor on a restart. samples: their numbers in the source.
    """

    image: Tensor
    clean: Tensor
    target: Tensor
    valid: Tensor
    positions: tuple[int, ...] = ()
    samples: tuple[int, ...] = ()

    @cached_property
    def counted(self) -> int:
        """Images with a valid pixel: those a loss averages over, and the weight of this batch in its step."""
        return int(self.valid.flatten(1).any(1).sum())

    def to(self, device: torch.device) -> Batch:
        image = self.image.to(device, non_blocking=True)
        clean = image if self.clean is self.image else self.clean.to(device, non_blocking=True)
        target, valid = self.target.to(device, non_blocking=True), self.valid.to(device, non_blocking=True)
        return Batch(image, clean, target, valid, self.positions, self.samples)

    def split(self, size: int | None) -> Iterator[Batch]:
        """Parts of `size` images in order, the last may be smaller. None: all at once."""
        count = len(self.image)
        if size is None or size >= count:
            yield self
            return
        for begin in range(0, count, size):
            part = slice(begin, begin + size)
            image = self.image[part]
            clean = image if self.clean is self.image else self.clean[part]
            yield Batch(image, clean, self.target[part], self.valid[part], self.positions[part], self.samples[part])


sample_index = index_at
"""(position, count, seed) -> which of `count` samples stands at a position of the endless order."""


class BatchFunction(Protocol):
    """The images of a step: a pure function of its number, and of which process of how many asks."""

    def __call__(self, step: int, rank: int = 0, ranks: int = 1) -> Batch: ...


class Batches:
    """batches(step) -> Batch. The random numbers of a sample depend on its position and the seed alone.

    Step s holds the positions s * batch_size up to (s + 1) * batch_size; process r of W takes every W-th, from r.
    """

    def __init__(
        self,
        source: SampleSource,
        *,
        input_size: Size,
        augment: AugmentSection,
        batch_size: int,
        seed: int,
        keep_clean: bool = False,
    ) -> None:
        self.source, self.input_size, self.section = source, input_size, augment
        self.batch_size, self.seed, self.keep_clean = batch_size, seed, keep_clean

    def __call__(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        return self.at(range(step * self.batch_size + rank, (step + 1) * self.batch_size, ranks))

    def at(self, positions: Sequence[int]) -> Batch:
        """The images at these positions of the endless order."""
        numbers = tuple(sample_index(position, len(self.source), self.seed) for position in positions)
        images, cleans, targets, valids = [], [], [], []
        for position, number in zip(positions, numbers, strict=True):
            sample = self.source.load(number)
            rng = np.random.default_rng([self.seed, 1, position])
            changed = augment(sample.image, sample.disparity, sample.valid, self.input_size, self.section, rng)
            images.append(changed.image)
            cleans.append(changed.clean)
            targets.append(min_max(changed.disparity, changed.valid))
            valids.append(changed.valid)
        image = _normalised(images)
        return Batch(
            image=image,
            clean=_normalised(cleans) if self.keep_clean else image,
            target=torch.from_numpy(np.stack(targets)),
            valid=torch.from_numpy(np.stack(valids)),
            positions=tuple(positions),
            samples=numbers,
        )


def _normalised(images: list[NDArray[np.float32]]) -> Tensor:
    """(h, w, 3) RGB maps in 0..1 -> (B, 3, h, w) float32 with ImageNet statistics."""
    mean, std = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_STD, np.float32)
    stacked = (np.stack(images) - mean) / std  # (B, h, w, 3)
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))
