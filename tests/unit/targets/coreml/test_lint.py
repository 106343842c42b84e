"""The checks of a saved package say what is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datk.quantize.program import register_quantized_ops
from datk.targets.coreml.build import export
from datk.targets.coreml.lint import check_program
from datk.targets.coreml.reference.program import Program, read_program


class Quantised(nn.Module):
    """One int8 layer; the quantised input also goes into a residual add when asked to."""

    def __init__(self, *, residual: bool) -> None:
        super().__init__()
        register_quantized_ops()
        self.residual = residual
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("weight", torch.randint(-127, 128, (8, 8), generator=generator, dtype=torch.int8))
        self.register_buffer("scales", torch.full((8,), 0.01))
        self.register_buffer("zeros", torch.zeros(8, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        ops = torch.ops.quantized_decomposed
        q = ops.quantize_per_tensor.default(x, 1.0, -128, -128, 127, torch.int8)
        x = ops.dequantize_per_tensor.default(q, 1.0, -128, -128, 127, torch.int8)
        weight = ops.dequantize_per_channel.default(self.weight, self.scales, self.zeros, 0, -127, 127, torch.int8)
        y = nn.functional.linear(x, weight)
        return x + y if self.residual else y


def program_of(module: nn.Module) -> nn.Module:
    return export(module, (6, 8)).module(check_guards=False)


@pytest.fixture(scope="module")
def clean(bench: Any) -> Program:
    return read_program(bench.package(Quantised(residual=False), "int8", name="clean"))


def failed(program: Program, module: nn.Module, bench: Any, meant: int | None = None) -> dict[str, str]:
    checks = check_program(program, contract=bench.contract("int8"), module=module, meant=meant)
    return {name: check["detail"] for name, check in checks.items() if check["status"] != "passed"}


def test_int8_package_as_meant_passes(clean: Program, bench: Any) -> None:
    assert failed(clean, program_of(Quantised(residual=False)), bench, meant=1) == {}


def test_layer_that_was_not_quantised_is_missed(clean: Program, bench: Any) -> None:
    wrong = failed(clean, program_of(Quantised(residual=False)), bench, meant=2)
    assert list(wrong) == ["int8_layers"]
    assert "2 layers meant" in wrong["int8_layers"]


def test_float_package_is_not_int8(workshop: Any, bench: Any) -> None:
    net = nn.Linear(8, 64)
    program = read_program(workshop.package(net, "fp16"))
    assert failed(program, program_of(net), bench).keys() == {"int8_layers", "int8_storage"}


def test_quantised_residual_add_is_named(workshop: Any, bench: Any) -> None:
    module = Quantised(residual=True)
    program = read_program(workshop.package(module, "int8"))
    wrong = failed(program, program_of(module), bench, meant=1)
    assert list(wrong) == ["kept_in_float"]
    assert "add " in wrong["kept_in_float"]


def test_scale_that_vanishes_in_fp16_is_named(clean: Program, bench: Any) -> None:
    weights = next(op for op in clean.operations if op.type == "constexpr_affine_dequantize")
    scale = np.asarray(weights.inputs["scale"][0]).copy()
    scale[3] = 0
    broken = replace(weights, inputs=weights.inputs | {"scale": (scale,)})
    program = replace(clean, operations=tuple(broken if op is weights else op for op in clean.operations))
    wrong = failed(program, program_of(Quantised(residual=False)), bench)
    assert wrong == {"int8_scales": f"scales that became 0: {weights.name}"}


def test_operations_left_in_fp32_are_listed(workshop: Any, bench: Any) -> None:
    program = read_program(workshop.package(nn.ReLU(), "fp32"))
    check = check_program(program, contract=bench.contract("fp16"), module=nn.ReLU())["left_in_fp32"]
    assert check["operations"] == ["relu depth"]
