"""MIL operations that move values without changing them."""

from __future__ import annotations

import torch
from torch import Tensor

from datk.errors import TargetError
from datk.targets.coreml.reference.registry import mil

Ints = tuple[int, ...]


@mil("reshape", moves_only=True)
def reshape(x: Tensor, shape: Ints) -> Tensor:
    """-1 is inferred; 0 copies the input's size of that axis."""
    return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape)])


@mil("transpose", moves_only=True)
def transpose(x: Tensor, perm: Ints) -> Tensor:
    return x.permute([p % x.dim() for p in perm])


@mil("squeeze", moves_only=True)
def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(axes)


@mil("expand_dims", moves_only=True)
def expand_dims(x: Tensor, axes: Ints) -> Tensor:
    """axes count in the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x


@mil("split", moves_only=True)
def split(x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None) -> tuple[Tensor, ...]:
    if split_sizes is not None:
        return torch.split(x, list(split_sizes), dim=axis)
    if not num_splits or x.shape[axis] % num_splits:
        raise TargetError(f"split of {x.shape[axis]} into {num_splits} cannot be judged here")
    return torch.split(x, x.shape[axis] // num_splits, dim=axis)


@mil("concat", moves_only=True)
def concat(values: tuple[Tensor, ...], axis: int, interleave: bool = False) -> Tensor:
    if interleave:
        raise TargetError("concat with interleave cannot be judged here")
    return torch.cat(values, dim=axis)


@mil("slice_by_index", moves_only=True)
def slice_by_index(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: tuple[bool, ...] | None = None,
    end_mask: tuple[bool, ...] | None = None,
    squeeze_mask: tuple[bool, ...] | None = None,
) -> Tensor:
    """x[begin:end:stride] per axis; a mask takes the whole side, squeeze_mask the single index begin."""
    rank = x.dim()
    steps = stride or (1,) * rank
    no = (False,) * rank
    if min(steps) < 1:
        raise TargetError(f"slice_by_index with stride {steps} cannot be judged here")
    index: list[int | slice] = []
    for axis, (first, last, step, from_start, to_end, drop) in enumerate(
        zip(begin, end, steps, begin_mask or no, end_mask or no, squeeze_mask or no, strict=True)
    ):
        if drop:
            index.append(first)
        else:
            index.append(slice(0 if from_start else first, x.shape[axis] if to_end else last, step))
    return x[tuple(index)]
