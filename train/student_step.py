"""What a student's step computes: the losses its recipe asks for, put together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from datk.config.train_sections import StudentSection
from datk.losses.feature_alignment import feature_alignment_of_each
from datk.models.depth_anything import DepthAnything
from datk.train.cross_context import CrossContext
from datk.train.features import FeatureReference, Learner
from datk.train.loop import StepLoss
from datk.train.mixed import image_weights
from datk.train.objective import depth_loss
from datk.train.samples import Batch
from datk.train.tails import watched, with_tails


@dataclass(frozen=True)
class StudentStep:
    """(batch, done) -> StepLoss. reference: whose features are followed. context: what the teacher adds online."""

    section: StudentSection
    net: DepthAnything
    learner: Learner
    reference: FeatureReference | None
    context: CrossContext | None

    def __call__(self, batch: Batch, done: float) -> StepLoss:
        section = self.section.loss
        weights = None
        if batch.labelled is not None and self.section.labelled is not None:
            weights = image_weights(batch.labelled, self.section.labelled)
        with watched(self.net.pretrained, section) as stream:
            raw, tokens = self.net.forward_train(batch.image)
        loss = depth_loss(
            raw,
            self.net.activate(raw),
            batch.target,
            batch.valid,
            section,
            done,
            pasted=batch.pasted,
            labelled=batch.labelled,
            weights=weights,
        )
        if self.context is not None and batch.local is not None and batch.place is not None:
            loss = self.context.add(self.net, loss, batch.local, batch.place, done)
        if self.reference is not None:
            feature = self._feature(tokens, batch)
            total = loss.total + section.feature_weight * feature
            loss = StepLoss(total=total, parts={**loss.parts, "feature": feature}, output=loss.output)
        return with_tails(loss, stream, section)

    def _feature(self, tokens: Tensor, batch: Batch) -> Tensor:
        """The feature alignment loss; of the pseudo-labelled images alone where labelled ones are among them (V1)."""
        assert self.reference is not None
        each = feature_alignment_of_each(
            self.learner.bridge(tokens).float(),
            self.reference(batch.clean).float(),
            margin=self.section.loss.feature_margin,
            margin_on=self.section.loss.feature_margin_on,
            mean_over=self.section.loss.feature_mean_over,
        )  # (B,)
        if batch.labelled is not None and self.section.labelled is not None:
            every = self.section.labelled.every
            each = torch.where(batch.labelled, 0.0, each * every / (every - 1))
        return each.mean()
