"""What ExecuTorch with XNNPACK runs slowly, or not at all, read from its partitioner and its runtime's own kernels."""

from __future__ import annotations

from datk.targets.op_lint import Rule

DEVICE = "ExecuTorch's runtime with XNNPACK"
KNOWN = ("aten", "dim_order_ops", "quantized_decomposed")
"""Operator libraries that ExecuTorch's own builds bring."""
BOOKKEEPING = "executorch_prim"
"""Views and integers: no arithmetic on the map."""
MOST_SIDES = 6
"""XNN_MAX_TENSOR_DIMS of xnnpack.h."""

KERNEL = Rule(
    id="executorch-portable-kernel",
    device=DEVICE,
    why="XNNPACK has no such operator: a plain kernel on one core runs it, between two parts that copy their edges",
    rewrite="fold shapes and indices into constants before exporting; build the app's runtime with optimized_kernels, "
    "which has a faster native_layer_norm",
    source="executorch backends/xnnpack/partition/config/__init__.py (ALL_PARTITIONER_CONFIGS)",
)
CUSTOM = Rule(
    id="executorch-custom-op",
    device="every ExecuTorch runtime",
    why="it runs only where the app registers that operator; the plain runtime refuses the file",
    rewrite="write it in aten operators before exporting",
    source="executorch runtime/executor/method.cpp (OperatorMissing)",
    severity="error",
)
RANK = Rule(
    id="executorch-xnnpack-rank",
    device=DEVICE,
    why=f"a tensor of more than {MOST_SIDES} dimensions: XNNPACK refuses the graph when the file is loaded",
    rewrite="multiply 4-D tensors (pass attention); drop a batch axis of 1",
    source="google/XNNPACK include/xnnpack.h (XNN_MAX_TENSOR_DIMS)",
    severity="error",
)

RULES = (KERNEL, CUSTOM, RANK)
