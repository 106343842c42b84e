"""OpenVINO: an IR (model.xml and model.bin in one folder) for Intel CPUs, GPUs and NPUs. Light: imports no SDK."""

from __future__ import annotations

from datk.targets.base import Target

TARGET = Target(
    name="openvino",
    title="OpenVINO IR (Intel CPU, GPU, NPU)",
    package=__name__,
    suffix=".openvino",
    precisions=("fp32", "fp16", "int8", "int8-weights", "int4-weights"),
    default_precisions=("fp16", "int8"),
    modules=("openvino", "onnx", "onnxscript"),
    extra="openvino",
    latency_runner=".runner:open_for_latency",
    profiler=".profile:op_times",
    tracer=".trace:open_trace",
    builds_on=("onnx",),
    op_lint=".op_lint:lint",
    tools=("torch", "onnx", "onnxscript", "nncf", "openvino"),
)
