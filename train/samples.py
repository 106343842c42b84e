"""Training samples, the order they are seen in, and batches as a pure function of the step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from functools import cached_property, partial
from operator import itemgetter
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datk.config.augment_section import AugmentSection
from datk.config.beyond_sections import CrossContextSection
from datk.data.order import index_at
from datk.data.sample import min_max
from datk.depth.io_spec import IMAGENET_MEAN, IMAGENET_STD, Size
from datk.train.augment import Augmented, augment, local_view
from datk.train.cutmix import paste, rectangle


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

    pasted: (B, h, w) bool, what CutMix pasted in. labelled: (B,) bool, whose target is exact rather than a
    pseudo-label. local, place: closer looks, (B, 3, h', w') normalised, and where each lies in its image, (B, 4) top,
    left, bottom, right in 0..1. None where a recipe asks for none.
    """

    image: Tensor
    clean: Tensor
    target: Tensor
    valid: Tensor
    positions: tuple[int, ...] = ()
    samples: tuple[int, ...] = ()
    pasted: Tensor | None = None
    labelled: Tensor | None = None
    local: Tensor | None = None
    place: Tensor | None = None

    @cached_property
    def counted(self) -> int:
        """Images with a valid pixel: those a loss averages over, and the weight of this batch in its step."""
        return int(self.valid.flatten(1).any(1).sum())

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the batch by its field's name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def _with(self, change: Callable[[Tensor], Tensor], **other: Any) -> Batch:
        changed: dict[str, Any] = {name: change(value) for name, value in self.tensors().items()}
        if self.clean is self.image:
            changed["clean"] = changed["image"]
        return replace(self, **changed, **other)

    def to(self, device: torch.device) -> Batch:
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """The same in page-locked memory, from which a GPU copies while the CPU goes on."""
        return self._with(lambda tensor: tensor.pin_memory())

    def split(self, size: int | None) -> Iterator[Batch]:
        """Parts of `size` images in order, the last may be smaller. None: all at once."""
        count = len(self.image)
        if size is None or size >= count:
            yield self
            return
        for begin in range(0, count, size):
            part = slice(begin, begin + size)
            yield self._with(itemgetter(part), positions=self.positions[part], samples=self.samples[part])


sample_index = index_at
"""(position, count, seed) -> which of `count` samples stands at a position of the endless order."""


class BatchFunction(Protocol):
    """The images of a step: a pure function of its number, and of which process of how many asks."""

    def __call__(self, step: int, rank: int = 0, ranks: int = 1) -> Batch: ...


class ChoosingSource(SampleSource, Protocol):
    """A source that has several samples under a number and draws one of them."""

    def load_drawn(self, index: int, rng: np.random.Generator) -> TrainingSample: ...


def load_drawn(source: SampleSource, index: int, rng: np.random.Generator) -> TrainingSample:
    """A sample of a source; rng is asked only where the source has a choice."""
    drawn = getattr(source, "load_drawn", None)
    return drawn(index, rng) if drawn is not None else source.load(index)


class OrderedSource(SampleSource, Protocol):
    """A source with an order of its own: a mixture that keeps the shares of its sets."""

    def at(self, position: int) -> int:
        """Number of the sample at a position of the endless order."""


def order_of(source: SampleSource) -> Callable[[int], int] | None:
    """A source's own order, for Batches; None where it has none."""
    at: Callable[[int], int] | None = getattr(source, "at", None)
    return at


class Draw(IntEnum):
    """What a random number of a position is for: each purpose has a stream of its own."""

    AUGMENT = 1
    STEP = 2
    TEACHER = 3
    CUTMIX = 4
    PASTED = 5
    LOCAL = 6


@dataclass(frozen=True)
class Example:
    """One picture as a batch holds it, with its number in the source."""

    number: int
    view: Augmented
    target: NDArray[np.float32]
    pasted: NDArray[np.bool_] | None = None
    labelled: bool | None = None
    local: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None


class Batches:
    """batches(step) -> Batch. The random numbers of a sample depend on its position and the seed alone.

    Step s holds the positions s * batch_size up to (s + 1) * batch_size; process r of W takes every W-th, from r.
    cross_context: closer looks of input_size, or of the section's, go along. order: position -> number of a sample (a
    mixture's `at`); None: every epoch a permutation of its own. normalise: targets are min-max 0..1 of what is seen of
    them; otherwise they stay as the source gives them.
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
        cross_context: CrossContextSection | None = None,
        order: Callable[[int], int] | None = None,
        normalise: bool = True,
    ) -> None:
        self.source, self.input_size, self.section = source, input_size, augment
        self.batch_size, self.seed, self.keep_clean = batch_size, seed, keep_clean
        self.cross_context, self.normalise = cross_context, normalise
        self.order = order or partial(sample_index, count=len(source), seed=seed)

    def __call__(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        return self.at(range(step * self.batch_size + rank, (step + 1) * self.batch_size, ranks))

    def at(self, positions: Sequence[int]) -> Batch:
        """The images at these positions of the endless order."""
        return stack([self.example(position) for position in positions], positions, keep_clean=self.keep_clean)

    def example(self, position: int) -> Example:
        """The picture at a position of the endless order."""
        number = self.order(position)
        sample = load_drawn(self.source, number, self._rng(Draw.TEACHER, position))
        view, target = self._view(sample, self._rng(Draw.AUGMENT, position))
        example = Example(number, view, target)
        if self.section.cutmix > 0:
            example = self._mixed(example, position)
        if self.cross_context is not None:
            size = self.cross_context.input_size or self.input_size
            bounds = (self.cross_context.smallest, self.cross_context.largest)
            local = local_view(sample.image, view, size, *bounds, self._rng(Draw.LOCAL, position))
            example = replace(example, local=local)
        return example

    def _mixed(self, example: Example, position: int) -> Example:
        """With the section's probability, a rectangle of another picture pasted in; its target is normalised alone."""
        rng = self._rng(Draw.CUTMIX, position)
        inside = np.zeros(self.input_size, np.bool_)
        if rng.random() >= self.section.cutmix:
            return replace(example, pasted=inside)
        other = load_drawn(self.source, int(rng.integers(len(self.source))), self._rng(Draw.TEACHER, position))
        view, target = self._view(other, self._rng(Draw.PASTED, position))
        inside = rectangle(self.input_size, self.section, rng)
        return replace(
            example,
            view=paste(example.view, view, inside),
            target=np.where(inside, target, example.target),
            pasted=inside,
        )

    def _view(self, sample: TrainingSample, rng: np.random.Generator) -> tuple[Augmented, NDArray[np.float32]]:
        view = augment(sample.image, sample.disparity, sample.valid, self.input_size, self.section, rng)
        return view, min_max(view.disparity, view.valid) if self.normalise else view.disparity

    def _rng(self, purpose: Draw, position: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, int(purpose), position])


def stack(examples: Sequence[Example], positions: Sequence[int], *, keep_clean: bool) -> Batch:
    """Pictures of one size put together; what only some of them have is filled in for the others."""
    image = _normalised([example.view.image for example in examples])
    pasted = [example.pasted for example in examples]
    labelled = [example.labelled for example in examples]
    local = [example.local for example in examples if example.local is not None]
    nothing = np.zeros(examples[0].target.shape, np.bool_)
    return Batch(
        image=image,
        clean=_normalised([example.view.clean for example in examples]) if keep_clean else image,
        target=torch.from_numpy(np.stack([example.target for example in examples])),
        valid=torch.from_numpy(np.stack([example.view.valid for example in examples])),
        positions=tuple(positions),
        samples=tuple(example.number for example in examples),
        pasted=None
        if all(mask is None for mask in pasted)
        else torch.from_numpy(np.stack([nothing if mask is None else mask for mask in pasted])),
        labelled=None if all(flag is None for flag in labelled) else torch.tensor([bool(flag) for flag in labelled]),
        local=_normalised([part for part, _ in local]) if local else None,
        place=torch.from_numpy(np.stack([place for _, place in local])) if local else None,
    )


def _normalised(images: list[NDArray[np.float32]]) -> Tensor:
    """(h, w, 3) RGB maps in 0..1 -> (B, 3, h, w) float32 with ImageNet statistics."""
    mean, std = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_STD, np.float32)
    stacked = (np.stack(images) - mean) / std  # (B, h, w, 3)
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))
