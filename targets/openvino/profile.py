"""Operator times of an IR, from OpenVINO's own performance counters."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import Contract
from datk.depth.runner import check_bucket_image
from datk.errors import TargetError
from datk.targets.op_times import Kind, OpTimes
from datk.targets.openvino.runner import AS_AN_APP, compiled

LAYERS = ("FullyConnected", "MatMul", "Convolution")
CONVERTS = frozenset(("FakeQuantize", "Convert", "Quantize"))
MOVES = frozenset(("Reorder", "Transpose", "Reshape", "Concat", "Split", "VariadicSplit", "Slice", "StridedSlice"))
WARMUP = 1


def op_times(artifact: Path, contract: Contract, image: NDArray[np.uint8], runs: int) -> OpTimes:
    """Run the artifact WARMUP + runs times with performance counters on, as an app sets OpenVINO up.

    image: (h, w, 3) uint8 RGB of the contract's size. Raises TargetError when it cannot be run or names no operator.
    """
    check_bucket_image(image, contract.input_size)
    request = compiled(artifact, contract, {**AS_AN_APP, "PERF_COUNT": True}).create_infer_request()
    by_kind: Counter[Kind] = Counter()
    by_op: Counter[str] = Counter()
    for run in range(WARMUP + runs):
        request.infer([np.ascontiguousarray(image)[None]])
        for item in _executed(request) if run >= WARMUP else ():
            took_ms = item.real_time.total_seconds() * 1e3 / runs
            by_kind[kind_of(item.node_type, item.exec_type)] += took_ms  # type: ignore[assignment]
            by_op[item.node_type] += took_ms  # type: ignore[assignment]
    if not sum(by_op.values()) > 0:
        raise TargetError(f"{artifact}: OpenVINO's counters name no operator that took time")
    return OpTimes({k: float(v) for k, v in by_kind.items()}, {k: float(v) for k, v in by_op.most_common()}, runs)


def integer_layers(request: Any) -> tuple[int, int]:
    """(computed in integers, all) of the layers with weights that ran in the last inference of a request."""
    ran = [item for item in _executed(request) if item.node_type.startswith(LAYERS)]
    return sum(in_integers(item.exec_type) for item in ran), len(ran)


def in_integers(exec_type: str) -> bool:
    """Of a kernel's name: jit_gemm_I8, brgconv_avx512_U8."""
    return exec_type.lower().endswith(("i8", "u8"))


def kind_of(node_type: str, exec_type: str) -> Kind:
    """Of one executed operator: by what it is and by its kernel's name, which ends in the type it computes in."""
    if node_type in CONVERTS:
        return "convert"
    if not in_integers(exec_type):
        return "float"
    if node_type.startswith(LAYERS):
        return "integer"
    return "move" if node_type in MOVES else "convert"  # an elementwise kernel on 8 bits goes to or from floats


def _executed(request: Any) -> list[Any]:
    return [item for item in request.get_profiling_info() if item.status.name == "EXECUTED"]
