"""Every rule on Core ML: an operation that trips it, and one beside it that does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from datk.targets.coreml import op_rules as rules
from datk.targets.coreml.op_lint import findings, lint
from datk.targets.coreml.reference.program import ImageInput, Operation, Program, TensorType
from datk.targets.op_lint import LintRequest, record


def op(kind: str, *shape: int, dtype: str = "float16", **bound: object) -> Operation:
    inputs = {key: (np.asarray(value),) for key, value in bound.items()}
    return Operation(kind, inputs, frozenset(inputs), {"out": TensorType(dtype, shape)})


def found(*operations: Operation) -> list[tuple[str, str]]:
    program = Program(
        Path("x"), ImageInput("image", (6, 8), "RGB"), TensorType("float16", (1, 3, 6, 8)), operations, ("out",), {},
        "", 8,
    )  # fmt: skip
    return [(f.rule.id, f.op) for f in findings(program)]


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        (rules.RANK, op("reshape", 1, 1, 1, 2, 3, 4), op("reshape", 1, 2, 3, 4)),
        (rules.FIVE, op("reshape", 1, 1, 2, 3, 4), op("reshape", 1, 2, 3, 4)),
        (rules.OP, op("gather", 1, 3, 4), op("slice_by_index", 1, 3, 4)),
        (rules.DILATED, op("conv", 1, 3, 4, 4, dilations=[2, 2]), op("conv", 1, 3, 4, 4, dilations=[1, 1])),
        (rules.LAYOUT, op("linear", 1, 9, 8), op("conv", 1, 8, 1, 9)),
        (rules.LAYOUT, op("layer_norm", 1, 9, 8), op("layer_norm", 1, 8, 1, 9)),
        (rules.SINGLE, op("relu", 1, 8, dtype="float32"), op("cast", 1, 8, dtype="float32")),
        (rules.W8A8, op("quantize", 1, 8, dtype="int8"), op("constexpr_affine_dequantize", 8, 8)),
    ],
)
def test_a_rule_names_the_operation_that_breaks_it_and_no_other(rule, bad, good):
    assert found(bad) == [(rule.id, bad.type)]
    assert found(good) == []


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.factor)[:, 0]


def test_a_value_too_large_for_float16_is_found_by_running_the_package(bench: Any) -> None:
    white = [np.full((6, 8, 3), 255, np.uint8)]
    package = bench.package(Times(100.0), "fp16", name="large")
    request = LintRequest(artifact=package, contract=bench.contract("fp16"), photos=white)
    large = [f for f in lint(request).findings if f.rule is rules.HALF]
    assert large and large[0].said == "reaches 2.55e+04"
    grey = [np.full((6, 8, 3), 100, np.uint8)]
    small = LintRequest(artifact=package, contract=bench.contract("fp16"), photos=grey)
    assert rules.HALF not in [f.rule for f in lint(small).findings]
    silent = record(lint(LintRequest(artifact=package, contract=bench.contract("fp16"))))
    assert silent["not_measured"] == {rules.HALF.id: "no photographs"}
