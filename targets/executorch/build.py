"""Compile for ExecuTorch: torch's own export, or NNCF's int8 program, lowered to XNNPACK as far as XNNPACK goes."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule

from datk.artifact.files import atomic_path
from datk.depth.io_spec import Contract, contract_for
from datk.errors import TargetError
from datk.targets import int8_record
from datk.targets.base import BuildRequest, BuildResult
from datk.targets.chatter import sdk_chatter_off
from datk.targets.executorch.lint import check_float, check_int8
from datk.targets.executorch.program import read_program
from datk.targets.executorch.runner import CONTRACT_METHOD, METADATA_METHOD, open_artifact
from datk.targets.executorch.scheme import scheme
from datk.targets.tflite.quiet import native_output_to

ARTIFACT = "model.pte"
CARRIES_NO_NUMBERS = ("alloc", "getitem")
"""Entries of an ExecuTorch graph that are bookkeeping."""


def build(request: BuildRequest) -> BuildResult:
    """Write request.out/model.pte: (1, h, w, 3) uint8 RGB in, (1, h, w) float32 out.

    Checks: `delegation` (what XNNPACK runs and what is left to ExecuTorch's plain kernels), `int8-scheme` or `weights`
    (what the saved file stores and computes), `runtime` (the runtime loads the saved file and runs it), `conversion`
    (seconds). Raises TargetError with the exporter's own words.
    """
    contract = contract_for(
        input_size=request.input_size,
        depth_kind=request.depth_kind,
        precision=request.precision,
        max_depth_m=request.max_depth_m,
    )
    started = time.perf_counter()
    content, operators = lower(request.module, contract, request.metadata)
    seconds = time.perf_counter() - started
    artifact = request.out / ARTIFACT
    with atomic_path(artifact) as part:
        part.write_bytes(content)
    checks = {
        "delegation": check_delegation(operators),
        **_lint(artifact, request),
        "runtime": check_runtime(artifact, contract),
        "conversion": {"status": "passed", "detail": f"converted in {seconds:.0f} s", "seconds": round(seconds, 1)},
    }
    return BuildResult(artifact=artifact, contract=contract, checks=checks)


def _lint(artifact: Path, request: BuildRequest) -> dict[str, dict[str, Any]]:
    program = read_program(artifact)
    if request.precision != "int8":
        return {"weights": check_float(program)}
    quantizer = (request.scheme or scheme()).quantizer
    assert isinstance(request.module, GraphModule)
    wanted, adds = quantizer.selected(request.module), len(quantizer.adds(request.module))
    return {int8_record.NAME: check_int8(program, request.module, wanted, adds=adds)}


def lower(module: torch.nn.Module, contract: Contract, metadata: dict[str, str]) -> tuple[bytes, Counter[str]]:
    """(bytes of a .pte, its operators outside the delegates by name, "delegate" among them).

    module takes (1, h, w, 3) uint8. Contract and metadata lie in the file as methods that return text.
    Raises TargetError.
    """
    example = torch.zeros((1, *contract.input_size, 3), dtype=torch.uint8)
    texts = {METADATA_METHOD + key: value for key, value in sorted(metadata.items())}
    with native_output_to(None), sdk_chatter_off(), torch.no_grad():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        try:
            edge = to_edge_transform_and_lower(
                torch.export.export(module, (example,)),
                partitioner=[XnnpackPartitioner()],
                constant_methods={CONTRACT_METHOD: contract.model_dump_json(), **texts},
            )
            program = edge.to_executorch()
        except (RuntimeError, ValueError, TypeError, NotImplementedError, LookupError, AssertionError) as error:
            words = str(error).strip() or type(error).__name__
            raise TargetError(f"ExecuTorch refused the net: {words}") from error
    nodes = program.exported_program().graph.nodes
    return bytes(program.buffer), Counter(_operator(n) for n in nodes if n.op == "call_function")


def _operator(node: Any) -> str:
    name = str(getattr(node.target, "__name__", node.target))
    return "delegate" if "call_delegate" in str(node.target) else name.removesuffix(".out").removesuffix("_out")


def check_delegation(operators: Counter[str]) -> dict[str, Any]:
    """A check record: at least one part runs in XNNPACK; the operators left outside are named."""
    outside = {name: n for name, n in sorted(operators.items()) if name not in (*CARRIES_NO_NUMBERS, "delegate")}
    told = ", ".join(f"{n} x {name}" for name, n in outside.items()) or "nothing"
    parts = operators["delegate"]
    return {
        "status": "passed" if parts else "failed",
        "detail": f"{parts} parts run in XNNPACK; left to ExecuTorch's plain kernels: {told}",
        "delegates": parts,
        "outside": outside,
    }


def check_runtime(artifact: Path, contract: Contract) -> dict[str, Any]:
    """Load the saved file in ExecuTorch's runtime and run it once on a grey ramp: is it finite."""
    runner = open_artifact(artifact, contract)
    h, w = contract.input_size
    ramp = np.linspace(0, 255, h * w * 3).reshape(h, w, 3).astype(np.uint8)
    try:
        finite = bool(np.isfinite(runner.predict(ramp)).all())
    finally:
        runner.close()
    return {
        "status": "passed" if finite else "failed",
        "detail": "ExecuTorch loads and runs it" + ("" if finite else ": the output is not finite"),
    }
