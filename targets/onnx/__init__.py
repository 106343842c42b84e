"""ONNX: the by-product every runtime reads. 8-bit RGB in, float32 depth out, one static size."""

from __future__ import annotations

from datk.targets.base import Target

TARGET = Target(
    name="onnx",
    title="ONNX (ONNX Runtime, OpenVINO, ...)",
    package=__name__,
    suffix=".onnx",
    precisions=("fp32", "fp16", "int8", "int8-weights"),
    default_precisions=("fp32", "int8"),
    modules=("onnx", "onnxscript", "onnxruntime"),
    extra="onnx",
    foreign_encoders=("fp32", "fp16"),
    latency_runner=".runner:open_for_latency",
    profiler=".profile:op_times",
    tracer=".trace:open_trace",
    op_lint=".op_lint:lint",
    tools=("torch", "onnx", "onnxscript", "nncf"),
)
