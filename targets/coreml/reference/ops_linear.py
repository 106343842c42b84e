"""MIL operations that multiply and accumulate, and the normalising ones. All accumulate in fp32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from datk.errors import TargetError
from datk.targets.coreml.reference.registry import as_float, mil

Ints = tuple[int, ...]


@mil("linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x: (*, C_in), weight: (C_out, C_in)."""
    return F.linear(x, weight, bias)


@mil("matmul")
def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    return (x.transpose(-1, -2) if transpose_x else x) @ (y.transpose(-1, -2) if transpose_y else y)


@mil("conv")
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """2-D convolution. x: (B, C_in, H, W), weight: (C_out, C_in / groups, Kh, Kw)."""
    top, bottom, left, right = _conv_padding(pad_type, pad, weight, strides, dilations)
    if top or bottom or left or right:
        x = F.pad(x, (left, right, top, bottom))
    return F.conv2d(x, weight, bias, strides or (1, 1), 0, dilations or (1, 1), groups)


@mil("conv_transpose")
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """2-D transposed convolution. x: (B, C_in, H, W), weight: (C_in, C_out / groups, Kh, Kw)."""
    if pad_type not in ("valid", "custom"):
        raise TargetError(f"conv_transpose with pad_type {pad_type} cannot be judged here")
    full = F.conv_transpose2d(x, weight, bias, strides or (1, 1), 0, 0, groups, dilations or (1, 1))
    top, bottom, left, right = pad if pad_type == "custom" and pad else (0, 0, 0, 0)
    cut = full[..., top : full.shape[-2] - bottom, left : full.shape[-1] - right]
    if output_shape is not None and tuple(cut.shape) != output_shape:
        raise TargetError(f"conv_transpose gives {tuple(cut.shape)}, the package says {output_shape}")
    return cut


@mil("layer_norm")
def layer_norm(
    x: Tensor,
    axes: Ints | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: Tensor | float = 1e-5,
) -> Tensor:
    """Over any axes; gamma and beta have the shape of those axes, in their order."""
    rank = x.dim()
    over = sorted(a % rank for a in (axes or range(rank)))
    last = list(range(rank - len(over), rank))
    moved = x.movedim(over, last)
    return F.layer_norm(moved, moved.shape[last[0] :], gamma, beta, as_float(epsilon)).movedim(last, over)


@mil("softmax")
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    return torch.softmax(x, dim=axis)


def _conv_padding(
    pad_type: str, pad: Ints | None, weight: Tensor, strides: Ints | None, dilations: Ints | None
) -> Ints:
    """(top, bottom, left, right)."""
    if weight.dim() != 4:
        raise TargetError(f"a {weight.dim() - 2}-D convolution cannot be judged here: only 2-D")
    if pad_type == "valid":
        return (0, 0, 0, 0)
    if pad_type == "custom":
        return pad or (0, 0, 0, 0)
    if pad_type == "same" and (strides or (1, 1)) == (1, 1):
        spans = [(k - 1) * d for k, d in zip(weight.shape[2:], dilations or (1, 1), strict=True)]
        return (spans[0] // 2, spans[0] - spans[0] // 2, spans[1] // 2, spans[1] - spans[1] // 2)
    raise TargetError(f"conv with pad_type {pad_type} and strides {strides} cannot be judged here")


@mil("batch_norm")
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: Tensor | float = 1e-5,
) -> Tensor:
    """Per channel (axis 1), with stored statistics: the converter makes it of a scale and a shift."""
    return F.batch_norm(x, mean, variance, gamma, beta, training=False, eps=as_float(epsilon))
