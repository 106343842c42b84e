"""Build for Jetson: strongly typed ONNX, plan, device scripts and golden inputs, judged as far as a host can."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from datk.artifact.files import atomic_path, write_json
from datk.depth.io_spec import Contract, contract_for
from datk.errors import TargetError
from datk.targets import int8_record
from datk.targets.base import BuildRequest, BuildResult
from datk.targets.jetson.half_range import check_half_range
from datk.targets.jetson.nvidia import check_engine, check_rtx_build
from datk.targets.jetson.on_device import SCRIPTS
from datk.targets.jetson.opset17 import in_opset_17
from datk.targets.jetson.options import Options
from datk.targets.jetson.plan import WEAK, build_plan
from datk.targets.jetson.samples import NAME as LAYERS
from datk.targets.jetson.samples import write_samples
from datk.targets.jetson.scheme import scheme
from datk.targets.onnx.artifact import save_checked, stamp
from datk.targets.onnx.build import expected_int8_layers
from datk.targets.onnx.export import onnx_model
from datk.targets.onnx.half import half_precision
from datk.targets.onnx.int8 import check_int8

GOLDEN_PHOTOS = 4


def build(request: BuildRequest) -> BuildResult:
    """Write model.onnx, model_opset17.onnx, build_plan.json, the device's scripts, golden.npz and layers.npz.

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
    extra = _device_files(request, full, typed, path, contract)
    checks: dict[str, dict[str, Any]] = {}
    if request.precision == "int8":
        expected = expected_int8_layers(request, request.scheme or scheme())
        checks[int8_record.NAME] = check_int8(typed, expected, symmetric=True, program=request.module)
    if request.precision != "fp32":
        checks["fp16-range"] = check_half_range(full, typed, request.photos)
    checks["tensorrt-rtx-build"] = check_rtx_build(path, contract)
    checks["tensorrt-engine"] = check_engine(request.out / SCRIPTS[0])
    engine = request.out / _engine_name(contract)
    return BuildResult(
        artifact=path, contract=contract, extra_files=(*extra, *([engine] if engine.is_file() else [])), checks=checks
    )


def _device_files(
    request: BuildRequest, full: onnx.ModelProto, typed: onnx.ModelProto, model: Path, contract: Contract
) -> tuple[Path, ...]:
    """Plan, scripts, TensorRT 8.6's file and, when photographs were given, golden inputs and samples of every layer."""
    scripts = tuple(request.out / name for name in SCRIPTS)
    for script in scripts:
        with atomic_path(script) as part:
            shutil.copyfile(Path(__file__).parent / "device" / script.name, part)
    weak = _weak(request, full, contract)
    made = [*scripts, *([weak] if isinstance(weak, Path) else [])]
    if request.photos:
        _write_golden(request, full, request.out / "golden.npz")
        write_samples(full, typed, request.photos[0], request.out / LAYERS)
        made += [request.out / "golden.npz", request.out / LAYERS]
    plan = build_plan(
        model,
        contract,
        engine=_engine_name(contract),
        golden="golden.npz" if request.photos else None,
        layers=LAYERS if request.photos else None,
        weak=weak,
        float32_nodes=tuple(n.name for n in full.graph.node if n.op_type == "LayerNormalization"),
    )
    write_json(request.out / "build_plan.json", plan)
    return (request.out / "build_plan.json", *made)


def _weak(request: BuildRequest, full: onnx.ModelProto, contract: Contract) -> Path | str:
    """The float32 graph in opset 17, for TensorRT 8.6; or why there is none, in words."""
    options = request.options or Options()
    if not options.tensorrt8:
        return "left out: the export's option tensorrt8 is false"
    try:
        old = in_opset_17(full)
    except TargetError as error:
        return f"none: {error.message}"
    stamp(old, contract, request.metadata)
    save_checked(old, request.out / WEAK)
    return request.out / WEAK


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
