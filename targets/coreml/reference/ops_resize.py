"""Bilinear resizing: the corner convention decides, so both are written out by their definitions.

align_corners=True samples at i (in - 1) / (out - 1), False at (i + 0.5) in / out - 0.5.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from datk.errors import TargetError
from datk.targets.coreml.reference.registry import as_float, mil

_ALIGNED = {"STRICT_ALIGN_CORNERS": True, "ALIGN_CORNERS": True, "UNALIGN_CORNERS": False}
"""MIL sampling mode -> torch's align_corners. The two aligned modes differ only for an output of one pixel."""


@mil("upsample_bilinear")
def upsample_bilinear(
    x: Tensor,
    scale_factor_height: Tensor | float = 1.0,
    scale_factor_width: Tensor | float = 1.0,
    align_corners: bool = True,
) -> Tensor:
    """Output size floor(size * factor); the sampling step follows from the sizes, not from the factor."""
    size = (_scaled(x.shape[-2], scale_factor_height), _scaled(x.shape[-1], scale_factor_width))
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


@mil("resize_bilinear")
def resize_bilinear(
    x: Tensor, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Tensor:
    return _bilinear(x, (target_size_height, target_size_width), sampling_mode)


@mil("resize")
def resize(
    x: Tensor,
    shape: tuple[int, ...],
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    if interpolation_mode != "LINEAR" or resized_dims != 2:
        raise TargetError(f"resize {interpolation_mode} over {resized_dims} axes cannot be judged here")
    height, width = (n or x.shape[axis] for n, axis in zip(shape[-2:], (-2, -1), strict=True))
    return _bilinear(x, (height, width), sampling_mode)


def _bilinear(x: Tensor, size: tuple[int, int], sampling_mode: str) -> Tensor:
    if sampling_mode not in _ALIGNED:
        raise TargetError(f"resize with sampling mode {sampling_mode} cannot be judged here")
    return F.interpolate(x, size=size, mode="bilinear", align_corners=_ALIGNED[sampling_mode])


def _scaled(size: int, factor: Tensor | float) -> int:
    """floor(size * factor) with the factor's own fp32 rounding forgiven: 7 * 2.2857141 is 16, not 15."""
    exact = size * as_float(factor)
    return round(exact) if abs(exact - round(exact)) < 1e-3 else int(exact)
