"""LiteRT (TensorFlow Lite): one .tflite file for Android and small Linux boards. Light: imports no SDK."""

from __future__ import annotations

from datk.targets.base import Target

TARGET = Target(
    name="tflite",
    title="LiteRT / TensorFlow Lite (Android, Raspberry Pi, any CPU with XNNPACK)",
    package=__name__,
    suffix=".tflite",
    precisions=("fp32", "fp16", "int8", "int8-weights", "int8-dynamic"),
    default_precisions=("fp16", "int8"),
    modules=("litert_torch", "ai_edge_litert"),
    extra="tflite",
    pack=".pack:pack",
    no_profile="LiteRT's Python interpreter tells no operator's time; its benchmark_model --enable_op_profiling does",
    tracer=".trace:open_trace",
    op_lint=".op_lint:lint",
    options=".options:Options",
    tools=("torch", "nncf", "torchao", "litert-torch", "litert-converter", "ai-edge-litert", "ai-edge-quantizer"),
)
