"""Several packages as one multi-function package: a function each, equal weights once, the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datk.artifact.files import sha256_file, size_bytes
from datk.depth.io_spec import Bucket, Contract, Size, entry_of
from datk.errors import TargetError
from datk.pipeline.several_buckets import open_packed
from datk.targets import get
from datk.targets.base import PackRequest
from datk.targets.coreml.pack import pack
from datk.targets.coreml.reference.program import package_files, read_program, read_specification

SIZES = ((14, 28), (28, 14))
WEIGHTS = 64 * 64 * 9


class Toy(nn.Module):
    """(1, 3, h, w) -> (1, h, w): weights that every size shares, and one tensor that depends on the size."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 64, 3, padding=1)
        self.inner = nn.Conv2d(64, 64, 3, padding=1)
        self.last = nn.Conv2d(64, 1, 1)
        self.register_buffer("position", torch.linspace(0, 1, size[0] * size[1]).reshape(1, 1, *size))

    def forward(self, x: Tensor) -> Tensor:
        return (self.last(torch.relu(self.inner(self.first(x / 255)))) + self.position)[:, 0]


def packed_contract(bench) -> Contract:
    buckets = tuple(Bucket(input_size=s, folder=".", entry=entry_of(s)) for s in SIZES)
    return bench.contract("fp16", SIZES[0]).model_copy(update={"buckets": buckets})


@pytest.fixture(scope="module")
def alone(bench) -> dict[Size, Path]:
    return {size: bench.package(Toy(size), "fp16", size, name=f"{size[0]}x{size[1]}") for size in SIZES}


@pytest.fixture(scope="module")
def packed(bench, alone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts = {entry_of(size): path for size, path in alone.items()}
    out = tmp_path_factory.mktemp("packed")
    return pack(PackRequest(parts=parts, contract=packed_contract(bench), metadata={"who": "test"}, out=out))


def test_every_function_gives_the_numbers_of_the_package_it_came_from(bench, alone, packed) -> None:
    target, contract = get("coreml"), packed_contract(bench)
    for size in SIZES:
        one, entry = target.open(alone[size], bench.contract("fp16", size)), target.open(packed, contract.at(size))
        np.testing.assert_array_equal(entry.predict(bench.image(size)), one.predict(bench.image(size)))
    runner = open_packed(target, packed, contract)
    assert runner.predict(bench.image(SIZES[1])).shape == SIZES[1]
    runner.close()


def test_it_needs_ios_18_names_its_functions_and_says_what_each_takes(packed) -> None:
    spec = read_specification(package_files(packed)["root"])
    assert spec.specificationVersion == 9 and spec.description.defaultFunctionName == entry_of(SIZES[0])
    assert [f.name for f in spec.description.functions] == [entry_of(s) for s in SIZES]
    assert "28 high" in spec.description.functions[1].input[0].shortDescription
    user = spec.description.metadata.userDefined
    assert user["datk.who"] == "test" and Contract.model_validate_json(user[f"datk.contract.{entry_of(SIZES[1])}"])
    with pytest.raises(TargetError, match=r"no function named 'main', only depth_14x28, depth_28x14"):
        read_program(packed)


def test_equal_weights_are_stored_once_and_equal_parts_give_equal_bytes(bench, alone, packed, tmp_path: Path) -> None:
    apart = sum(size_bytes(path) for path in alone.values())
    assert size_bytes(packed) < apart - 2 * WEIGHTS + 8192
    parts = {entry_of(size): path for size, path in alone.items()}
    again = pack(PackRequest(parts=parts, contract=packed_contract(bench), metadata={"who": "test"}, out=tmp_path))
    assert sha256_file(again) == sha256_file(packed)


def test_a_part_that_is_no_package_is_refused_in_the_tools_words(bench, alone, tmp_path: Path) -> None:
    parts = {entry_of(SIZES[0]): alone[SIZES[0]], entry_of(SIZES[1]): tmp_path}
    with pytest.raises(TargetError, match="coremltools refused to pack"):
        pack(PackRequest(parts=parts, contract=packed_contract(bench), out=tmp_path))
