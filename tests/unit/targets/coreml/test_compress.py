"""Compressed weights: what the saved package stores, and what the evaluator makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from datk.errors import TargetError
from datk.targets.coreml.build import convert
from datk.targets.coreml.compress import check_compressed, compress
from datk.targets.coreml.reference.evaluator import Evaluator
from datk.targets.coreml.reference.ops_quantize import constexpr_lut_to_dense
from datk.targets.coreml.reference.program import Program, read_program
from datk.targets.coreml.seal import write_package

WORST = {"int8-weights": 0.02, "lut8": 0.01, "lut6": 0.05, "lut4": 0.2}
"""Largest error of an answer relative to the largest answer."""


class Layers(nn.Module):
    """A convolution and a linear worth compressing, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.dense, self.small = nn.Conv2d(3, 96, 3, padding=1), nn.Linear(96, 48), nn.Linear(48, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.small(torch.relu(self.dense(torch.relu(self.wide(x / 128 - 1)).permute(0, 2, 3, 1))))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(3)
    return Layers().eval().requires_grad_(False)


def saved(net: nn.Module, precision: str, workshop: Any, folder: Path) -> Program:
    form = workshop.contract(precision)
    path = folder / f"{precision}.mlpackage"
    model = convert(net, form)
    write_package(compress(model, precision) if precision in WORST else model, path, contract=form, metadata={})
    return read_program(path)


@pytest.mark.parametrize("precision", WORST)
def test_large_weights_are_stored_so_and_the_answer_follows(
    precision: str, net: nn.Module, workshop: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = saved(net, precision, workshop, tmp_path)
    found = check_compressed(program, precision)
    assert found["status"] == "passed", found
    assert sum(found["stored"].values()) == 3 and found["stored"]["const"] == 1
    answer = Evaluator(program).run(workshop.pixels())[program.outputs[0]].float()
    expected = net(workshop.pixels())
    assert float((answer - expected).abs().max() / expected.abs().max()) < WORST[precision]
    assert "compression pass" not in capfd.readouterr().err


def test_weights_left_in_float_are_named(net: nn.Module, workshop: Any, tmp_path: Path) -> None:
    program = saved(net, "fp16", workshop, tmp_path)
    found = check_compressed(program, "int8-weights")
    assert found["status"] == "failed" and "2 large weights are not stored as int8-weights" in found["detail"]


def test_another_tables_size_is_named(net: nn.Module, workshop: Any, tmp_path: Path) -> None:
    found = check_compressed(saved(net, "lut4", workshop, tmp_path), "lut6")
    assert found["status"] == "failed" and "another table or scale" in found["detail"]


@settings(max_examples=60, deadline=None)
@given(bits=st.sampled_from([1, 2, 4, 6, 8]), count=st.integers(1, 40), seed=st.integers(0, 2**16))
def test_packed_indices_unpack_bit_by_bit(bits: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = rng.integers(0, 2**bits, count)
    stream = "".join(format(int(place), f"0{bits}b")[::-1] for place in places)  # least significant bit first
    stream += "0" * (-len(stream) % 8)
    packed = bytes(int(stream[i : i + 8][::-1], 2) for i in range(0, len(stream), 8))
    table = torch.from_numpy(rng.normal(size=2**bits).astype(np.float32))
    got = constexpr_lut_to_dense(torch.from_numpy(np.frombuffer(packed, np.uint8).copy()), table, (count,))
    assert torch.equal(got, table[torch.from_numpy(places)])


def test_a_table_that_does_not_fit_its_indices_is_refused() -> None:
    with pytest.raises(TargetError, match="do not make"):
        constexpr_lut_to_dense(torch.zeros(3, dtype=torch.uint8), torch.zeros(16), (4,))
