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
from datk.targets.int8_record import NAME


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
    assert wrong == {
        NAME: "1 of 2 layers meant for int8 are stored or run in float: 1 that were not quantised in the program"
    }


def test_float_package_is_not_int8(workshop: Any, bench: Any) -> None:
    net = nn.Linear(8, 64)
    program = read_program(workshop.package(net, "fp16"))
    assert failed(program, program_of(net), bench).keys() == {NAME}


def test_quantised_residual_add_is_named(workshop: Any, bench: Any) -> None:
    module = Quantised(residual=True)
    program = read_program(workshop.package(module, "int8"))
    wrong = failed(program, program_of(module), bench, meant=1)
    assert list(wrong) == [NAME]
    assert "1 operations must stay in float but touch int8: add " in wrong[NAME]


def test_scale_that_vanishes_in_fp16_is_named(clean: Program, bench: Any) -> None:
    weights = next(op for op in clean.operations if op.type == "constexpr_affine_dequantize")
    scale = np.asarray(weights.inputs["scale"][0]).copy()
    scale[3] = 0
    broken = replace(weights, inputs=weights.inputs | {"scale": (scale,)})
    program = replace(clean, operations=tuple(broken if op is weights else op for op in clean.operations))
    wrong = failed(program, program_of(Quantised(residual=False)), bench)
    assert wrong == {NAME: f"scales that became 0: {weights.name}"}


@pytest.mark.parametrize("kind", ["weight", "input"])
def test_scale_off_by_two_is_named(clean: Program, bench: Any, kind: str) -> None:
    """In the saved package: one layer's weights, or the step of its input, twice what the program has."""
    wanted = "constexpr_affine_dequantize" if kind == "weight" else "dequantize"
    (op,) = [o for o in clean.operations if o.type == wanted]
    argument = op.inputs["scale"][0]
    operations = []
    for o in clean.operations:
        if o is op and "scale" in op.bound:
            o = replace(o, inputs=o.inputs | {"scale": (np.asarray(argument) * 2,)})
        elif o.type == "const" and isinstance(argument, str) and argument in o.outputs:
            o = replace(o, value=np.asarray(o.value) * 2)
        operations.append(o)
    wrong = failed(replace(clean, operations=tuple(operations)), program_of(Quantised(residual=False)), bench)
    said = "weights are 2 times the program's" if kind == "weight" else "scale of its input is 2 times the program's"
    assert said in wrong[NAME]


def test_quantised_layer_with_float_weights_is_named(workshop: Any, bench: Any) -> None:
    """Fake quantisation: int8 data meets weights that lie in the package as fp16."""
    module = Quantised(residual=False)
    module.forward = lambda x: nn.functional.linear(  # type: ignore[method-assign]
        _round_trip(x), module.weight.float() * module.scales[:, None]
    )
    program = read_program(workshop.package(module, "int8"))
    assert (
        "1 quantised layers have their weights stored as float: linear" in failed(program, nn.Identity(), bench)[NAME]
    )


def _round_trip(x: Tensor) -> Tensor:
    ops = torch.ops.quantized_decomposed
    q = ops.quantize_per_tensor.default(x, 1.0, -128, -128, 127, torch.int8)
    return ops.dequantize_per_tensor.default(q, 1.0, -128, -128, 127, torch.int8)


def test_operations_left_in_fp32_are_listed(workshop: Any, bench: Any) -> None:
    program = read_program(workshop.package(nn.ReLU(), "fp32"))
    check = check_program(program, contract=bench.contract("fp16"), module=nn.ReLU())["left_in_fp32"]
    assert check["operations"] == ["relu depth"]
