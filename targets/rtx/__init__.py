"""TensorRT-RTX: an engine for NVIDIA's RTX graphics cards, built ahead of time on a CPU. Light: imports no SDK."""

from __future__ import annotations

from datk.targets.base import Target

TARGET = Target(
    name="rtx",
    title="NVIDIA TensorRT-RTX engine (RTX GPUs)",
    package=__name__,
    suffix=".rtx",
    precisions=("fp32", "fp16", "int8"),
    default_precisions=("fp16", "int8"),
    modules=("onnx", "onnxscript", "onnxruntime", "tensorrt_rtx"),
    extra="rtx",
    not_here=".here:not_here",
    no_profile="datk reads no times of an engine's layers",
    builds_on=("onnx", "jetson"),
    op_lint=".op_lint:lint",
    tools=("torch", "onnx", "onnxscript", "nncf", "tensorrt-rtx-cu13"),
)
