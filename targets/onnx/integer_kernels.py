"""Which of a file's int8 layers ONNX Runtime truly computes in integers, read from the graph it made of the file."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import onnx

from datk.targets.onnx.profile import INTEGER_OPS
from datk.targets.onnx.runner import open_session

NAME = "int8-kernels"
_PRODUCTS = ("MatMul", "Gemm")
_CONVOLUTIONS = ("QLinearConv", "ConvInteger")


def check_kernels(artifact: Path, int8_ops: dict[str, int]) -> dict[str, Any]:
    """The check `int8-kernels`: no matrix product that the file holds in int8 may be left to float kernels.

    int8_ops: what the check `int8-scheme` counted, operator -> layers. A product computed in float dequantises its
    weight at every run and is slower than a float file. Convolutions are counted: ONNX Runtime has an integer one only
    where the output is quantised as well (QLinearConv), which the scheme does not ask for.
    """
    with tempfile.TemporaryDirectory(prefix="datk-kernels-") as folder:
        optimised = Path(folder) / "optimised.onnx"
        open_session(artifact, fuse_qdq=True, threads=1, optimised=optimised)
        runs = Counter(node.op_type for node in onnx.load(optimised, load_external_data=False).graph.node)
    convolutions = runs["QLinearConv"] + runs["ConvInteger"]
    products = (
        sum(count for op, count in runs.items() if op in INTEGER_OPS or op == "QLinearMatMul") - runs["ConvInteger"]
    )
    meant = sum(int8_ops.get(op, 0) for op in _PRODUCTS)
    detail = (
        f"ONNX Runtime computes {products} of {meant} matrix products and {convolutions} of "
        f"{int8_ops.get('Conv', 0)} convolutions in integers"
    )
    return {
        "status": "passed" if products >= meant else "failed",
        "detail": detail,
        "integer_products": products,
        "integer_convolutions": convolutions,
    }
