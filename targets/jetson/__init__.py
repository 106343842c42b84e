"""NVIDIA Jetson: a strongly typed ONNX file, a build plan and a script that builds and checks it on the device."""

from __future__ import annotations

from datk.targets.base import Target

TARGET = Target(
    name="jetson",
    title="NVIDIA Jetson (TensorRT)",
    package=__name__,
    suffix=".onnx",
    precisions=("fp32", "fp16", "int8"),
    default_precisions=("fp16", "int8"),
    modules=("onnx", "onnxscript", "onnxruntime"),
    extra="jetson",
    latency_runner=".runner:open_for_latency",
    stand_ins=dict.fromkeys(
        ("onnxruntime-cpu", "onnxruntime-cpu-qdq-in-float"), "ONNX Runtime on a CPU is not TensorRT on a Jetson"
    ),
    tracer=".trace:open_trace",
    device_build=".on_device:device_build",
    device_runtime="tensorrt",
    builds_on=("onnx",),
    op_lint=".op_lint:lint",
    options=".options:Options",
    tools=("torch", "onnx", "onnxscript", "nncf", "tensorrt-rtx-cu13"),
)
