"""Keep a net's last layers in float32 where the rest is computed in bfloat16."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


def in_float32(layers: nn.Module, x: Tensor) -> Tensor:
    """layers(x), outside autocast: a map computed in bfloat16 has 256 steps an octave, seen as terraces in a label."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):  # not on "meta"
        with torch.autocast(kind, enabled=False):
            return cast(Tensor, layers(x.float()))
    return cast(Tensor, layers(x))
