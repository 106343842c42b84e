"""Compile for OpenVINO: the ONNX graph of the same net, read by OpenVINO's own front end and saved as IR."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from datk.depth.io_spec import Contract, contract_for
from datk.errors import TargetError
from datk.targets import int8_record
from datk.targets.base import BuildRequest, BuildResult
from datk.targets.onnx.build import expected_int8_layers
from datk.targets.onnx.export import onnx_model
from datk.targets.openvino.ir import ARTIFACT, from_onnx, load, save
from datk.targets.openvino.lint import check_compressed, check_float, check_int8
from datk.targets.openvino.profile import integer_layers
from datk.targets.openvino.runner import AS_AN_APP, compiled
from datk.targets.openvino.scheme import scheme
from datk.targets.openvino.weights import PRECISIONS, compress

ARITHMETIC = {
    "fp16": "weights stored as float16; a CPU computes in float32, a GPU or NPU in float16",
    "int4-weights": "floating point, matrices stored as int4, convolutions as int8",
}
"""Where it is not what the precision's name promises."""


def build(request: BuildRequest) -> BuildResult:
    """Write request.out/model.openvino, a folder with model.xml and model.bin: (1, h, w, 3) uint8 RGB in, float32 out.

    Checks, all of the folder as read back from disk: how the weights are stored (`weights`, `int8-scheme` or
    `compressed-weights`), `runtime` (OpenVINO runs it as an app would), `conversion` (seconds). Raises TargetError
    with the compiler's own words.
    """
    contract = contract_for(
        input_size=request.input_size,
        depth_kind=request.depth_kind,
        precision=request.precision,
        max_depth_m=request.max_depth_m,
        arithmetic=ARITHMETIC.get(request.precision),
    )
    started = time.perf_counter()
    model = from_onnx(onnx_model(request.module, request.input_size))
    if request.precision in PRECISIONS:
        model = compress(model, request.precision)
    artifact = request.out / ARTIFACT
    save(model, artifact, contract, request.metadata, half=request.precision == "fp16")
    seconds = time.perf_counter() - started
    checks = {
        **_lint(artifact, request),
        "runtime": check_runtime(artifact, contract),
        "conversion": {"status": "passed", "detail": f"converted in {seconds:.0f} s", "seconds": round(seconds, 1)},
    }
    return BuildResult(artifact=artifact, contract=contract, checks=checks)


def check_runtime(artifact: Path, contract: Contract) -> dict[str, Any]:
    """Run the saved IR once on a ramp as an app would: is it finite, how many layers run in integers on this CPU."""
    h, w = contract.input_size
    ramp = np.linspace(0, 255, h * w * 3).reshape(1, h, w, 3).astype(np.uint8)
    request = compiled(artifact, contract, {**AS_AN_APP, "PERF_COUNT": True}).create_infer_request()
    try:
        finite = bool(np.isfinite(request.infer([ramp])[0]).all())
    except RuntimeError as error:
        raise TargetError(f"{artifact}: OpenVINO cannot run it: {error}") from error
    integer, total = integer_layers(request)
    good = finite and (contract.precision != "int8" or integer > 0)
    return {
        "status": "passed" if good else "failed",
        "detail": f"OpenVINO's CPU plugin computes {integer} of {total} layers in integers here"
        + ("" if finite else ": the output is not finite"),
        "integer_layers": integer,
        "layers": total,
    }


def _lint(artifact: Path, request: BuildRequest) -> dict[str, dict[str, Any]]:
    saved = load(artifact)
    if request.precision == "int8":
        expected = expected_int8_layers(request, request.scheme or scheme())
        return {int8_record.NAME: check_int8(saved, expected, request.module)}
    if request.precision in PRECISIONS:
        return {"compressed-weights": check_compressed(saved, request.precision)}
    return {"weights": check_float(saved, request.precision)}
