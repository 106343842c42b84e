"""Compile for ONNX: fp32, fp16 (casts at the edges) or int8 (Q/DQ per channel)."""

from __future__ import annotations

from typing import Any

import torch

from datk.depth.io_spec import contract_for
from datk.targets import int8_record
from datk.targets.base import BuildRequest, BuildResult
from datk.targets.chatter import sdk_chatter_off
from datk.targets.onnx import weights
from datk.targets.onnx.artifact import save_checked, stamp
from datk.targets.onnx.export import onnx_model, with_types
from datk.targets.onnx.graph import drop_unused
from datk.targets.onnx.half import half_precision, half_tensors
from datk.targets.onnx.int8 import check_int8
from datk.targets.onnx.integer_bias import int32_biases
from datk.targets.onnx.integer_kernels import NAME, check_kernels
from datk.targets.onnx.scheme import scheme
from datk.targets.onnx.weights import check_weights, int8_weights
from datk.targets.pt2e import QuantScheme


def build(request: BuildRequest) -> BuildResult:
    """Write request.out/model.onnx. Raises TargetError with the exporter's or checker's own words."""
    model = onnx_model(request.module, request.input_size)
    checks: dict[str, dict[str, Any]] = {}
    if request.precision == "fp16":
        model = half_precision(model)
        checks["fp16-graph"] = {
            "status": "passed",
            "detail": "all tensors behind the normalisation are float16",
            "half_tensors": len(half_tensors(model)),
        }
    if request.precision == "int8-weights":
        model = int8_weights(model)
        checks[weights.NAME] = check_weights(model)
    if request.precision == "int8":
        if int32_biases(model.graph):
            drop_unused(model.graph)
            model = with_types(model)
        expected = expected_int8_layers(request, request.scheme or scheme())
        checks[int8_record.NAME] = check_int8(model, expected, symmetric=False, program=request.module)
    contract = contract_for(
        input_size=request.input_size,
        depth_kind=request.depth_kind,
        precision=request.precision,
        max_depth_m=request.max_depth_m,
    )
    stamp(model, contract, request.metadata)
    path = request.out / "model.onnx"
    save_checked(model, path)
    if request.precision == "int8":
        checks[NAME] = check_kernels(path, checks[int8_record.NAME]["int8_ops"])
    return BuildResult(artifact=path, contract=contract, checks=checks)


def expected_int8_layers(request: BuildRequest, chosen: QuantScheme) -> list[str] | None:
    """Names of the layers the scheme selects in the float net; None when the request carries no float net."""
    if request.float_module is None:
        return None
    example = torch.zeros((1, *request.input_size, 3), dtype=torch.uint8)
    with sdk_chatter_off(), torch.no_grad():
        program = torch.export.export(request.float_module, (example,)).module(check_guards=False)
    assert isinstance(program, torch.fx.GraphModule)
    return chosen.quantizer.selected(program)
