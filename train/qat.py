"""Quantisation-aware training: the int8 program of a net learns to answer as the float net does.

What learns are the float weights behind the fake quantisation of datk.quantize.fake (quantisation-aware training:
Jacob et al. 2018, arXiv 1712.05877, section 3; distillation from the float net of the same shape: Mishra and Marr
2017, arXiv 1711.05852). The result is a float checkpoint of the same net; it is quantised, exported and judged as any
other, so there is one exporter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from datk.config.loss_section import LossSection
from datk.config.qat_section import QatSection
from datk.depth.io_spec import Size
from datk.losses.feature_alignment import feature_alignment_of_each
from datk.models.depth_anything import DepthAnything
from datk.quantize.fake import FakeQuantised, Learner
from datk.train.fit_and_save import TrainingSet, fit_and_save, training_set
from datk.train.guarded import guarded
from datk.train.loop import Progress, StepLoss
from datk.train.objective import depth_loss
from datk.train.result import TrainResult
from datk.train.samples import Batch, TrainingSample
from datk.train.start import fingerprint, weights_digest

if TYPE_CHECKING:
    from datk.data.sources import ImageSource


@dataclass(frozen=True)
class Unlabelled:
    """Photographs alone: the float net labels each view while training."""

    images: ImageSource

    def __len__(self) -> int:
        return len(self.images)

    def key(self, index: int) -> str:
        """The image's name in its source."""
        return self.images.key(index)

    def load(self, index: int) -> TrainingSample:
        image = self.images.read(index)
        return TrainingSample(image, np.zeros((1, 1), np.float32), np.ones((1, 1), np.bool_))


@dataclass(frozen=True)
class QatStep:
    """(batch of one image, done) -> StepLoss: the program's map and tokens against those of the float net.

    floating: the net as it was, frozen. Disparity is compared up to scale and shift as the section says; metric depth
    as it is, in units of the net's largest depth.
    """

    section: LossSection
    learner: Learner
    floating: DepthAnything

    def __call__(self, batch: Batch, done: float) -> StepLoss:
        self.floating.to(batch.image.device)
        with torch.no_grad():
            raw, reference = self.floating.forward_train(batch.image)
            target = self.floating.activate(raw).float()  # (1, h, w)
        output, tokens = self.learner(batch.image)
        section, largest = self.section, self.floating.max_depth_m
        if largest is not None:
            section = section.model_copy(update={"alignment": "none"})
            output, target = output / largest, target / largest
        loss = depth_loss(output, output, target, batch.valid, section, done)
        if tokens is None or section.feature_weight == 0:
            return loss
        feature = _feature(tokens, reference, section)
        total = loss.total + section.feature_weight * feature
        return StepLoss(total=total, parts={**loss.parts, "feature": feature}, output=loss.output)


def _feature(tokens: Tensor, reference: Tensor, section: LossSection) -> Tensor:
    """tokens: (1, N, dim) behind the last LayerNorm, those that are no patch in front. reference: (1, n, dim)."""
    patches = tokens[:, -reference.shape[1] :]
    return feature_alignment_of_each(
        patches.float(),
        reference.float(),
        margin=section.feature_margin,
        margin_on=section.feature_margin_on,
        mean_over=section.feature_mean_over,
    ).mean()


def qat_set(section: QatSection, images: ImageSource, out: Path, *, input_size: Size, seed: int) -> TrainingSet:
    """Batches of views of the photographs at the program's bucket; unreadable ones are listed below out."""
    source = guarded(Unlabelled(images), out)
    return training_set(source, section.schedule, input_size=input_size, augment=section.augment, seed=seed)


def train_quantised(
    section: QatSection,
    floating: DepthAnything,
    fake: FakeQuantised,
    images: ImageSource,
    out: Path,
    *,
    input_size: Size,
    seed: int,
    metadata: Mapping[str, str],
    made_from: Mapping[str, str],
    progress: Progress | None = None,
    stop_after: int | None = None,
) -> TrainResult:
    """Train fake against floating; write out/student.safetensors, a float checkpoint of the same net, and loss.csv.

    fake: datk.quantize.fake.fake_quantised of floating. images: unlabelled photographs, none of them of the validation
    set. metadata: into the file. made_from: what besides section, weights and seed decides the result: scheme,
    calibration set. Resumes like every training. Raises TrainingError, CheckpointError, DataError.
    """
    floating = floating.eval().requires_grad_(False)
    data = qat_set(section, images, out, input_size=input_size, seed=seed)
    return fit_and_save(
        fake.net,
        QatStep(section.loss, fake.learner, floating),
        data,
        section.schedule,
        out,
        name="student",
        metadata=metadata,
        fingerprint=fingerprint(section, seed=seed, float=weights_digest(floating), **made_from),
        seed=seed,
        learner=fake.learner,
        facts={"learnt": len(fake.learnt)},
        record={"loss": section.loss.model_dump(mode="json")},
        sample_name=lambda number: images.key(data.number(number)),
        progress=progress,
        stop_after=stop_after,
    )
