"""Build for Jetson: strongly typed ONNX, plan, device script and golden inputs, judged as far as a host can."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from datk.artifact.files import atomic_path, write_json
from datk.depth.io_spec import Contract, contract_for
from datk.targets import int8_record
from datk.targets.base import BuildRequest, BuildResult
from datk.targets.jetson.half_range import check_half_range
from datk.targets.jetson.nvidia import check_engine, check_rtx_build
from datk.targets.jetson.plan import build_plan
from datk.targets.jetson.scheme import scheme
from datk.targets.onnx.artifact import save_checked, stamp
from datk.targets.onnx.build import expected_int8_layers
from datk.targets.onnx.export import onnx_model
from datk.targets.onnx.half import half_precision
from datk.targets.onnx.int8 import check_int8

SCRIPT = "build_and_check.py"
GOLDEN_PHOTOS = 4


def build(request: BuildRequest) -> BuildResult:
    """Write model.onnx, build_plan.json, build_and_check.py and golden.npz into request.out.

    fp16 and int8 hold float16 behind the normalisation; int8 adds symmetric Q/DQ with zero point 0.
    Raises TargetError with the exporter's or checker's own words; NVIDIA's become failed checks.
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
    path = request.out / "model.onnx"
    save_checked(typed, path)
    extra = _device_files(request, full, path, contract)
    checks: dict[str, dict[str, Any]] = {}
    if request.precision == "int8":
        expected = expected_int8_layers(request, request.scheme or scheme())
        checks[int8_record.NAME] = check_int8(typed, expected, symmetric=True, program=request.module)
    if request.precision != "fp32":
        checks["fp16-range"] = check_half_range(full, typed, request.photos)
    checks["tensorrt-rtx-build"] = check_rtx_build(path, contract)
    checks["tensorrt-engine"] = check_engine(request.out / SCRIPT)
    engine = request.out / _engine_name(contract)
    return BuildResult(
        artifact=path, contract=contract, extra_files=(*extra, *([engine] if engine.is_file() else [])), checks=checks
    )


def _device_files(request: BuildRequest, full: onnx.ModelProto, model: Path, contract: Contract) -> tuple[Path, ...]:
    """Plan, script and, when photographs were given, golden inputs with the float32 graph's answers."""
    script = request.out / SCRIPT
    with atomic_path(script) as part:
        shutil.copyfile(Path(__file__).parent / "templates" / SCRIPT, part)
    golden = request.out / "golden.npz" if request.photos else None
    if golden is not None:
        _write_golden(request, full, golden)
    plan = request.out / "build_plan.json"
    name = None if golden is None else golden.name
    write_json(plan, build_plan(model, contract, engine=_engine_name(contract), golden=name))
    return (plan, script) if golden is None else (plan, script, golden)


def _engine_name(contract: Contract) -> str:
    h, w = contract.input_size
    return f"depth_{h}x{w}_{contract.precision}.engine"


def _write_golden(request: BuildRequest, full: onnx.ModelProto, path: Path) -> None:
    """image (n, h, w, 3) uint8 and depth (n, h, w) float32, the expected answer computed in float32."""
    import onnxruntime as ort
    import torch

    images = np.stack(request.photos[:GOLDEN_PHOTOS])
    if request.float_module is not None:
        with torch.no_grad():
            depths = [request.float_module(torch.from_numpy(i[None])).numpy()[0] for i in images]
    else:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 2
        session = ort.InferenceSession(full.SerializeToString(), options, providers=["CPUExecutionProvider"])
        depths = [session.run(None, {full.graph.input[0].name: i[None]})[0][0] for i in images]
    with atomic_path(path) as part:
        np.savez_compressed(part, image=images, depth=np.stack(depths).astype(np.float32))
