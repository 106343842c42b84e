"""Bilinear resizing, the one kind torch's interpolate becomes.

align_corners=True samples at i (in - 1) / (out - 1), False at (i + 0.5) in / out - 0.5, both clamped.
"""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from datk.targets.coreml.reference.registry import as_float, mil


@mil("upsample_bilinear")
def upsample_bilinear(
    x: Tensor,
    scale_factor_height: Tensor | float = 1.0,
    scale_factor_width: Tensor | float = 1.0,
    align_corners: bool = True,
) -> Tensor:
    """Output size floor(size * factor) in fp32; the sampling step follows from the sizes, not from the factor."""
    size = (_scaled(x.shape[-2], scale_factor_height), _scaled(x.shape[-1], scale_factor_width))
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


def _scaled(size: int, factor: Tensor | float) -> int:
    return int(np.floor(np.float32(size) * np.float32(as_float(factor))))
