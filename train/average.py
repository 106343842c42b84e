"""Exponential moving average of the weights (Polyak averaging), kept in float32 beside the net.

A BatchNorm's running statistics are averaged like weights: those of the last step belong to the last step's weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

STATISTICS = (".running_mean", ".running_var")


class WeightAverage:
    """average <- decay * average + (1 - decay) * weight after each step.

    The decay starts low, (1 + n) / (10 + n) after n updates, so that the random start does not linger.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.values = {n: p.detach().clone() for n, p in _averaged(module)}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in _averaged(module):
            self.values[name].lerp_(value, 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        for name, value in _averaged(module):
            value.copy_(self.values[name])

    def state(self) -> dict[str, int | dict[str, Tensor]]:
        return {"updates": self.updates, "values": self.values}

    def load(self, state: dict[str, object]) -> None:
        values = state["values"]
        assert isinstance(values, dict) and isinstance(state["updates"], int)
        self.updates = state["updates"]
        for name, value in self.values.items():
            value.copy_(values[name])


def _averaged(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors that learn or follow what learns."""
    yield from ((name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad)
    yield from ((name, buffer) for name, buffer in module.named_buffers() if name.endswith(STATISTICS))
