"""Build for RTX GPUs: the strongly typed ONNX graph of the jetson target, compiled to an engine on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datk.depth.io_spec import contract_for
from datk.errors import TargetError
from datk.targets import int8_record
from datk.targets.base import BuildRequest, BuildResult
from datk.targets.jetson.half_range import check_half_range
from datk.targets.jetson.nvidia import edges_problem, run_rtx
from datk.targets.onnx.artifact import save_checked, stamp
from datk.targets.onnx.build import expected_int8_layers
from datk.targets.onnx.export import onnx_model
from datk.targets.onnx.half import half_precision
from datk.targets.onnx.int8 import check_int8
from datk.targets.rtx.scheme import scheme
from datk.targets.rtx.twin import check_twin

ENGINE = "model.rtx"
SOURCE = "model.onnx"
LEFT_OUT = {"fp32": ("SM75",)}
"""Precision -> GPUs the builder has no kernels for: of Turing it says "FP32 GEMM is not supported" (1.7.1)."""


def build(request: BuildRequest) -> BuildResult:
    """Write model.rtx, an engine for every GPU TensorRT-RTX knows, and model.onnx, the graph it was built from.

    Checks: `engine` (what NVIDIA's builder made), `onnx-twin` (model.onnx against the float net on the photographs,
    by ONNX Runtime: the graph the engine was built from, not the engine), `fp16-range` and `int8-scheme` as for jetson.
    The engine itself is measured where a GPU is. Raises TargetError with the exporter's or NVIDIA's own words.
    """
    full = onnx_model(request.module, request.input_size)
    typed = full if request.precision == "fp32" else half_precision(full)
    contract = contract_for(
        input_size=request.input_size,
        depth_kind=request.depth_kind,
        precision=request.precision,
        max_depth_m=request.max_depth_m,
    )
    stamp(typed, contract, request.metadata)
    source, engine = request.out / SOURCE, request.out / ENGINE
    save_checked(typed, source)
    said = compile_engine(source, engine, LEFT_OUT.get(request.precision, ()))
    if problem := edges_problem(said, contract):
        raise TargetError(f"{engine}: {problem}")
    checks: dict[str, dict[str, Any]] = {"engine": _engine_record(said)}
    if request.precision == "int8":
        expected = expected_int8_layers(request, request.scheme or scheme())
        checks[int8_record.NAME] = check_int8(typed, expected, symmetric=True, program=request.module)
    if request.precision != "fp32":
        checks["fp16-range"] = check_half_range(full, typed, request.photos)
    checks["onnx-twin"] = check_twin(source, contract, request.float_module, request.photos)
    return BuildResult(artifact=engine, contract=contract, extra_files=(source,), checks=checks)


def compile_engine(source: Path, engine: Path, left_out: Sequence[str] = ()) -> dict[str, Any]:
    """Build source into engine in a process of its own; what it said. Raises TargetError in NVIDIA's words.

    left_out: compute capabilities the engine shall not serve.
    """
    said = run_rtx(source, engine, left_out)
    if not said["ok"]:
        words = "\n".join(said["errors"]) or "it gave no reason"
        raise TargetError(f"TensorRT-RTX refused {source.name} ({said['stage']}): {words}")
    return said


def _engine_record(said: dict[str, Any]) -> dict[str, Any]:
    detail = (
        f"TensorRT-RTX {said['version']} built {said['layers']} layers, strongly typed, into "
        f"{said['engine_bytes'] / 1e6:.1f} MB for {', '.join(said['compute_capabilities'])}"
    )
    figures = {k: v for k, v in said.items() if k not in ("ok", "stage", "errors")}
    return {"status": "passed", "detail": detail, **figures}
