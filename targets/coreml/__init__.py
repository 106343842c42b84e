"""Core ML: an .mlpackage (ML program) with an RGB image input. Light: imports no SDK."""

from __future__ import annotations

from datk.targets.base import Target

TARGET = Target(
    name="coreml",
    title="Core ML (.mlpackage, iOS 17 / macOS 14 and later)",
    package=__name__,
    suffix=".mlpackage",
    precisions=("fp32", "fp16", "int8", "int8-weights", "lut8", "lut6", "lut4"),
    default_precisions=("fp16", "int8"),
    modules=("coremltools",),
    extra="coreml",
    options=".options:Options",
    pack=".pack:pack",
    input_form="nchw_float",
    stand_ins={"coreml-reference": "datk's evaluator is not Core ML"},
    tracer=".trace:open_trace",
    device_build=".on_device:device_build",
    device_runtime="coreml",
    op_lint=".op_lint:lint",
    tools=("coremltools", "torch", "nncf", "torchao"),
)
