"""int8 for TensorRT-RTX: as for TensorRT, symmetric with zero point 0, on inputs and weights only."""

from __future__ import annotations

from datk.targets.jetson.scheme import scheme

__all__ = ["scheme"]
