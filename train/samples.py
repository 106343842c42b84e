"""Training samples, the order they are seen in, and batches as a pure function of the step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datk.config.train_sections import AugmentSection
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

    target: (B, h, w) float32 disparity 0..1, larger is nearer. valid: (B, h, w) bool.
    """

    image: Tensor
    clean: Tensor
    target: Tensor
    valid: Tensor

    def to(self, device: torch.device) -> Batch:
        image = self.image.to(device, non_blocking=True)
        clean = image if self.clean is self.image else self.clean.to(device, non_blocking=True)
        return Batch(image, clean, self.target.to(device), self.valid.to(device))


def min_max(values: NDArray[np.floating], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Map values linearly so that the valid ones span 0..1; 0 where invalid or when all valid ones are equal."""
    if not valid.any():
        return np.zeros(values.shape, np.float32)
    low, high = float(values[valid].min()), float(values[valid].max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.where(valid, scaled, 0).astype(np.float32)


@lru_cache(maxsize=4)
def _permutation(count: int, epoch: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)


def sample_index(position: int, count: int, seed: int) -> int:
    """Which of `count` samples stands at a position of the endless order: every epoch a permutation of its own."""
    return int(_permutation(count, position // count, seed)[position % count])


class Batches:
    """batches(step) -> Batch. The random numbers of a sample depend on its position and the seed alone."""

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

    def __call__(self, step: int) -> Batch:
        images, cleans, targets, valids = [], [], [], []
        for position in range(step * self.batch_size, (step + 1) * self.batch_size):
            sample = self.source.load(sample_index(position, len(self.source), self.seed))
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
        )


def _normalised(images: list[NDArray[np.float32]]) -> Tensor:
    """(h, w, 3) RGB maps in 0..1 -> (B, 3, h, w) float32 with ImageNet statistics."""
    mean, std = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_STD, np.float32)
    stacked = (np.stack(images) - mean) / std  # (B, h, w, 3)
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))
