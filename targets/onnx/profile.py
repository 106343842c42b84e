"""Operator times of an .onnx artifact, from ONNX Runtime's own profile."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import Contract
from datk.depth.runner import check_bucket_image
from datk.errors import TargetError
from datk.targets.onnx.runner import MAX_THREADS, open_session
from datk.targets.op_times import Kind, OpTimes

INTEGER_OPS = frozenset(
    ("MatMulInteger", "ConvInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QGemm", "QAttention")
)
CONVERT_OPS = frozenset(("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"))
WARMUP = 1


def op_times(artifact: Path, contract: Contract, image: NDArray[np.uint8], runs: int) -> OpTimes:
    """Run the artifact WARMUP + runs times with ONNX Runtime's profiler on, as an app sets the session up.

    image: (h, w, 3) uint8 RGB of the contract's size. Raises TargetError when the file cannot be loaded or the profile
    names no operator.
    """
    check_bucket_image(image, contract.input_size)
    with tempfile.TemporaryDirectory(prefix="datk-profile-") as folder:
        session = open_session(artifact, fuse_qdq=True, threads=MAX_THREADS, profile=str(Path(folder) / "ort"))
        for _ in range(WARMUP + runs):
            session.run([contract.output.name], {contract.input.name: image[None]})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return times_from_events(events, runs=runs, artifact=artifact)


def times_from_events(events: Sequence[dict[str, Any]], *, runs: int, artifact: Path) -> OpTimes:
    """Sum up a profile's kernel times, the WARMUP first runs of every node left out."""
    seen: Counter[tuple[str, str]] = Counter()
    by_kind: Counter[Kind] = Counter()
    by_op: Counter[str] = Counter()
    for event in events:
        if event.get("cat") != "Node" or not str(event.get("name", "")).endswith("_kernel_time"):
            continue
        args = event["args"]
        node = (event["name"], str(args.get("node_index", "")))
        seen[node] += 1
        if seen[node] <= WARMUP:
            continue
        took_ms = float(event["dur"]) / 1e3 / runs
        by_kind[kind_of(args)] += took_ms  # type: ignore[assignment]
        by_op[str(args["op_name"])] += took_ms  # type: ignore[assignment]
    if not by_op:
        raise TargetError(f"{artifact}: ONNX Runtime's profile names no operator")
    return OpTimes({k: float(v) for k, v in by_kind.items()}, {k: float(v) for k, v in by_op.most_common()}, runs)


def kind_of(args: dict[str, Any]) -> Kind:
    """Of one node of the profile: by its operator, else by the types it takes and gives."""
    op = str(args["op_name"])
    if op in CONVERT_OPS:
        return "convert"
    if op.startswith("QLinear") or op in INTEGER_OPS:
        return "integer"
    types = {name for side in ("input_type_shape", "output_type_shape") for item in args.get(side, ()) for name in item}
    return "float" if types & {"float", "float16", "double", "bfloat16"} else "move"
