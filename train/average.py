"""Exponential moving average of the weights (Polyak averaging), kept in float32 beside the net."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """average <- decay * average + (1 - decay) * weight after each step.

    The decay starts low, (1 + n) / (10 + n) after n updates, so that the random start does not linger.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.values = {n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in module.named_parameters():
            if name in self.values:
                self.values[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        for name, parameter in module.named_parameters():
            if name in self.values:
                parameter.copy_(self.values[name])

    def state(self) -> dict[str, int | dict[str, Tensor]]:
        return {"updates": self.updates, "values": self.values}

    def load(self, state: dict[str, object]) -> None:
        values = state["values"]
        assert isinstance(values, dict) and isinstance(state["updates"], int)
        self.updates = state["updates"]
        for name, value in self.values.items():
            value.copy_(values[name])
