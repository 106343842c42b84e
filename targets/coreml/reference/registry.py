"""MIL operation type -> function. One table, filled by the ops_*.py files at import.

Arithmetic: every function computes in float32. When the package declares a result fp16, the evaluator
rounds it to fp16 once, after the operation: conv, linear, matmul, layer_norm and softmax therefore
accumulate in fp32 and round at the end, elementwise operations equal true fp16 ones (the exact
fp32 result of two fp16 numbers, rounded). Beyond 65504 a result becomes infinite, as on a device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

Function = Callable[..., Tensor | tuple[Tensor, ...]]
"""Inputs by their MIL names; constants of integers, flags and text arrive as Python values."""


@dataclass(frozen=True)
class Kernel:
    """How one operation type is computed."""

    function: Function
    moves_only: bool
    """It only moves values, so its result needs no rounding."""


F = TypeVar("F", bound=Function)

KERNELS: dict[str, Kernel] = {}


def mil(*types: str, moves_only: bool = False) -> Callable[[F], F]:
    """Register the decorated function for these MIL operation types."""

    def register(function: F) -> F:
        for kind in types:
            assert kind not in KERNELS, kind
            KERNELS[kind] = Kernel(function, moves_only)
        return function

    return register


def as_float(value: Any) -> float:
    """A scalar constant as Python float: it may arrive as a 0-d tensor."""
    return float(value)
