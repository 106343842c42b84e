"""ExecuTorch: a .pte program for phones and boards, computed by XNNPACK on their CPUs. Light: imports no SDK."""

from __future__ import annotations

from datk.targets.base import Target

TARGET = Target(
    name="executorch",
    title="ExecuTorch program (XNNPACK)",
    package=__name__,
    suffix=".pte",
    precisions=("fp32", "int8"),
    default_precisions=("fp32", "int8"),
    modules=("torch", "executorch"),
    extra="executorch",
    no_profile="ExecuTorch's published runtime is built without its event tracer, which would tell",
    op_lint=".op_lint:lint",
    builds_on=("tflite",),
    tools=("torch", "executorch", "nncf", "torchao"),
)
