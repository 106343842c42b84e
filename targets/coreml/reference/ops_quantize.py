"""MIL's integer quantisation: of activations at run time, of weights once, when the package is opened.

quantize: clip(round_half_even(x / scale) + zero_point); dequantize and constexpr_affine_dequantize:
scale * (q - zero_point). Source: docstrings of coremltools' iOS 16 and iOS 17 operation definitions.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from datk.errors import TargetError
from datk.targets.coreml.reference.registry import mil

_RANGES = {"int8": (torch.int8, -128, 127), "uint8": (torch.uint8, 0, 255)}


@mil("quantize")
def quantize(
    input: Tensor,
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    if output_dtype not in _RANGES:
        raise TargetError(f"quantize to {output_dtype} cannot be judged here", hint=f"known: {', '.join(_RANGES)}")
    dtype, low, high = _RANGES[output_dtype]
    q = torch.round(input / _along(scale, input, axis))
    if zero_point is not None:
        q = q + _along(zero_point, input, axis)
    return q.clamp(low, high).to(dtype)


@mil("dequantize")
def dequantize(
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    q = input.float()
    if zero_point is not None:
        q = q - _along(zero_point, input, axis)
    return q * _along(scale, input, axis)


@mil("constexpr_affine_dequantize")
def constexpr_affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int) -> Tensor:
    return dequantize(quantized_data, scale, zero_point, axis)


@mil("constexpr_blockwise_shift_scale")
def constexpr_blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """scale and offset have data's rank; each of their entries serves a block of data."""
    q = data.float()
    if offset is not None:
        q = q - _blocks(offset, data)
    return q * _blocks(scale, data)


@mil("constexpr_lut_to_dense")
def constexpr_lut_to_dense(indices: Tensor, lut: Tensor, shape: tuple[int, ...]) -> Tensor:
    """indices: bytes of indices packed from the least significant bit on, 1, 2, 4, 6 or 8 bits each, row-major."""
    bits = int(lut.numel()).bit_length() - 1
    count = math.prod(shape)
    if 2**bits != lut.numel() or indices.numel() != -(-count * bits // 8):
        raise TargetError(f"a table of {lut.numel()} entries and {indices.numel()} bytes do not make {shape}")
    unpacked = np.unpackbits(indices.numpy(), count=count * bits, bitorder="little").reshape(count, bits)
    places = unpacked.astype(np.int64) @ (1 << np.arange(bits))  # (count,)
    return lut[torch.from_numpy(places)].reshape(shape)


def _along(parameter: Tensor, data: Tensor, axis: int | None) -> Tensor:
    """A scalar as it is, a vector shaped to broadcast along axis of data."""
    if parameter.dim() == 0 or axis is None:
        return parameter.float()
    shape = [1] * data.dim()
    shape[axis] = -1
    return parameter.float().reshape(shape)


def _blocks(parameter: Tensor, data: Tensor) -> Tensor:
    for axis, (size, count) in enumerate(zip(data.shape, parameter.shape, strict=True)):
        parameter = parameter.repeat_interleave(size // count, dim=axis)
    return parameter.float()
