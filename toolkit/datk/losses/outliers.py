"""How heavy the tails of activations are, and a penalty on it: an int8 range must not be spent on a few values.

The idea of penalising the kurtosis is that of Shkolnik et al. 2020 (arXiv 2002.07686, there of weights) and of
Nrusimha et al. 2024 (arXiv 2404.03605, of activations). The logarithm is this project's choice: a
transformer's residual stream reaches a kurtosis of hundreds, which would drown every other loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Form = Literal["kurtosis", "range"]
SMALLEST_VARIANCE = 1e-12


@dataclass(frozen=True)
class Tails:
    """Of each image, over all values of one activation. largest: max |x|, its own unit. crest: max |x| / rms, no unit,
    >= 1. kurtosis: fourth central moment / squared variance, no unit, >= 1; 3 for a normal distribution. All (B,)."""

    largest: Tensor
    crest: Tensor
    kurtosis: Tensor


def tails(activation: Tensor) -> Tails:
    """activation: (B, ...) float. A constant activation has crest 1 (0 if it is 0) and kurtosis 0."""
    flat = activation.float().flatten(1) if activation.dtype != torch.float64 else activation.flatten(1)  # (B, N)
    largest = flat.abs().amax(1)
    rms = flat.square().mean(1).clamp(min=SMALLEST_VARIANCE).sqrt()
    centred = flat - flat.mean(1, keepdim=True)
    variance = centred.square().mean(1)
    kurtosis = centred.pow(4).mean(1) / variance.clamp(min=SMALLEST_VARIANCE).square()
    return Tails(largest, largest / rms, kurtosis)


def outlier_penalty(activations: Sequence[Tensor], *, form: Form = "kurtosis", limit: float = 3.0) -> Tensor:
    """Mean over images and activations of max(0, log(value / limit)), value = kurtosis or crest (`range`).

    activations: (B, ...) each, of any shapes. limit: > 0, the value from which on it costs. Returns a scalar >= 0; no
    gradient at or below the limit; does not change when an activation is multiplied by a number other than 0.
    """
    values = [tails(activation) for activation in activations]
    chosen = torch.stack([value.kurtosis if form == "kurtosis" else value.crest for value in values])  # (layers, B)
    return (chosen.clamp(min=limit) / limit).log().mean()
