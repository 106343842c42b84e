"""Look inside the Jetson's ONNX file with ONNX Runtime; an engine has no tensors to look at."""

from __future__ import annotations

from datk.targets.onnx.trace import OnnxTrace, open_trace

__all__ = ["OnnxTrace", "open_trace"]
