"""Run the Jetson's ONNX file with ONNX Runtime: the host's stand-in, labelled as what it is."""

from __future__ import annotations

from datk.targets.onnx.runner import OnnxRunner, open_artifact, open_for_latency

__all__ = ["OnnxRunner", "open_artifact", "open_for_latency"]
