"""Elementwise MIL operations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from datk.errors import TargetError
from datk.targets.coreml.reference.registry import as_float, mil


@mil("add")
def add(x: Tensor, y: Tensor) -> Tensor:
    return x + y


@mil("sub")
def sub(x: Tensor, y: Tensor) -> Tensor:
    return x - y


@mil("mul")
def mul(x: Tensor, y: Tensor) -> Tensor:
    return x * y


@mil("real_div")
def real_div(x: Tensor, y: Tensor) -> Tensor:
    return x / y


@mil("relu", moves_only=True)
def relu(x: Tensor) -> Tensor:
    return torch.relu(x)


@mil("sigmoid")
def sigmoid(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


@mil("silu")
def silu(x: Tensor) -> Tensor:
    return F.silu(x)


@mil("gelu")
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    if mode != "EXACT":
        raise TargetError(f"gelu with mode {mode} cannot be judged here", hint="known: EXACT")
    return F.gelu(x)


@mil("clip")
def clip(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return x.clamp(as_float(alpha), as_float(beta))


@mil("cast")
def cast(x: Tensor, dtype: str) -> Tensor:
    """fp16 and fp32: the evaluator rounds to the declared type; integers: towards zero."""
    if dtype in ("fp16", "fp32"):
        return x.float()
    if dtype in ("int32", "int8", "uint8"):
        return x.trunc().to(getattr(torch, dtype)) if x.is_floating_point() else x.to(getattr(torch, dtype))
    raise TargetError(f"cast to {dtype} cannot be judged here", hint="known: fp16, fp32, int32, int8, uint8")
