"""Tiny Core ML packages for tests: any module that takes the (1, 3, h, w) image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datk.depth.io_spec import Contract, DepthKind, Size, contract_for
from datk.targets.coreml.build import convert
from datk.targets.coreml.reference.evaluator import Evaluator
from datk.targets.coreml.reference.program import Program, read_program
from datk.targets.coreml.seal import write_package

pytest.importorskip("coremltools", reason="coremltools is not installed")


class _Several(nn.Module):
    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__()
        self.all = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(module(x) for module in self.all)


@dataclass(frozen=True)
class Workshop:
    """Converts, saves, reads back and runs modules in a folder of its own."""

    folder: Path

    @staticmethod
    def contract(precision: str, size: Size = (6, 8)) -> Contract:
        kind = DepthKind.DISPARITY_AFFINE_INVARIANT
        return contract_for(input_size=size, depth_kind=kind, precision=precision, layout="image")

    @staticmethod
    def image(size: Size = (6, 8), seed: int = 0) -> NDArray[np.uint8]:
        return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)

    @classmethod
    def pixels(cls, size: Size = (6, 8), seed: int = 0) -> Tensor:
        """The same image as the program takes it: (1, 3, h, w) float32 0..255."""
        return torch.from_numpy(cls.image(size, seed)).permute(2, 0, 1)[None].float()

    def package(self, module: nn.Module, precision: str, size: Size = (6, 8), name: str = "model") -> Path:
        """module converted and saved."""
        path = self.folder / f"{name}.mlpackage"
        form = self.contract(precision, size)
        write_package(convert(module.eval(), form), path, contract=form, metadata={})
        return path

    def run(self, module: nn.Module, precision: str, size: Size = (6, 8)) -> tuple[Program, Tensor]:
        """The saved program and what the evaluator makes of pixels(size)."""
        program = read_program(self.package(module, precision, size))
        return program, Evaluator(program).run(self.pixels(size))[program.outputs[0]]

    def run_all(self, modules: dict[str, nn.Module], precision: str) -> tuple[Program, dict[str, Tensor]]:
        """Several modules as outputs of one package: one conversion for many vectors."""
        form = self.contract(precision)
        path = self.folder / f"{precision}.mlpackage"
        model = convert(_Several(list(modules.values())).eval(), form, output_names=tuple(modules))
        write_package(model, path, contract=form, metadata={})
        program = read_program(path)
        return program, Evaluator(program).run(self.pixels())


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A workshop that outlives one test."""
    return Workshop(tmp_path_factory.mktemp("coreml"))


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)
