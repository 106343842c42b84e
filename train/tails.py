"""Watching the encoder's residual stream: its ranges in the log, and the penalty that keeps the student quantisable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from datk.config.loss_section import LossSection
from datk.losses.outliers import outlier_penalty, tails
from datk.train.loop import StepLoss


class Watched(Protocol):
    """An encoder that hands out what leaves each of its blocks while `watch` is a list."""

    watch: list[Tensor] | None


@contextmanager
def watched(encoder: Watched, section: LossSection) -> Iterator[list[Tensor]]:
    """Collect the block outputs, (B, N, C) each, of the forward passes inside; nothing when no key asks for it."""
    stream: list[Tensor] = []
    encoder.watch = stream if section.outlier_weight > 0 or section.log_ranges else None
    try:
        yield stream
    finally:
        encoder.watch = None


def with_tails(loss: StepLoss, stream: list[Tensor], section: LossSection) -> StepLoss:
    """The loss with the penalty added and the ranges among its parts; the same loss for an empty stream.

    range: largest magnitude after any block, in the stream's own unit. crest: largest magnitude over root mean square,
    of the worst block. kurtosis: of the worst block. Each a mean over images.
    """
    if not stream:
        return loss
    found = [tails(activation) for activation in stream]
    worst = {
        "range": torch.stack([tail.largest for tail in found]),
        "crest": torch.stack([tail.crest for tail in found]),
        "kurtosis": torch.stack([tail.kurtosis for tail in found]),
    }  # (blocks, B) each
    parts = {**loss.parts, **{name: values.detach().amax(0).mean() for name, values in worst.items()}}
    if section.outlier_weight == 0:
        return StepLoss(total=loss.total, parts=parts, output=loss.output)
    parts["outlier"] = outlier_penalty(stream, form=section.outlier_form, limit=section.outlier_limit)
    return StepLoss(total=loss.total + section.outlier_weight * parts["outlier"], parts=parts, output=loss.output)
