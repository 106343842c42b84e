"""Run a saved .mlpackage: Core ML itself on macOS, the reference evaluator elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datk.depth.io_spec import Contract
from datk.depth.runner import DepthMap, ImageU8, Runner, check_bucket_image
from datk.errors import TargetError
from datk.targets.chatter import sdk_chatter_off
from datk.targets.coreml.reference.evaluator import Evaluator
from datk.targets.coreml.reference.program import FUNCTION, Program, read_program


def open_artifact(artifact: Path, contract: Contract) -> Runner:
    """A runner for a saved package. Raises TargetError when it is damaged or is not what contract says."""
    program = read_program(artifact, contract.entry or FUNCTION)
    check_contract(program, contract)
    if sys.platform == "darwin":
        return CoreMLRunner(artifact, contract)
    return ReferenceRunner(program, contract)


def check_contract(program: Program, contract: Contract) -> None:
    """Raise TargetError unless the package's edges are those of the contract."""
    image = program.image
    found = (image.name, image.size, image.colour_order, program.outputs)
    expected = (contract.input.name, contract.input_size, contract.input.colour_order, (contract.output.name,))
    if found != expected:
        raise TargetError(
            f"{program.path}: (input, size, colours, outputs) are {found}, the contract says {expected}",
            hint="use the contract.json that was exported with this package",
        )


class ReferenceRunner:
    """The saved package executed by datk's own evaluator. Judges numbers, not Apple's hardware."""

    label = "coreml-reference"

    def __init__(self, program: Program, contract: Contract) -> None:
        self.name = f"coreml {contract.precision}"
        self.input_size = contract.input_size
        self.depth_kind = contract.depth_kind
        self._output = contract.output.name
        self._evaluator: Evaluator | None = Evaluator(program)

    def predict(self, image: ImageU8) -> DepthMap:
        """image: (h, w, 3) uint8 RGB. Returns (h, w) float32. Raises DataError on another image."""
        check_bucket_image(image, self.input_size)
        if self._evaluator is None:
            raise TargetError(f"{self.name}: the runner is closed")
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()  # (1, 3, h, w), exactly 0..255
        result = self._evaluator.run(pixels)[self._output]
        return np.ascontiguousarray(result.numpy()[0], dtype=np.float32)

    def close(self) -> None:
        """Free the decoded weights."""
        self._evaluator = None


class CoreMLRunner:
    """The saved package in Core ML on macOS."""

    label = "coreml"

    def __init__(self, artifact: Path, contract: Contract) -> None:
        with sdk_chatter_off():
            import coremltools as ct

            self._model: Any = ct.models.MLModel(str(artifact), function_name=contract.entry or None)
        self.name = f"coreml {contract.precision}"
        self.input_size = contract.input_size
        self.depth_kind = contract.depth_kind
        self._contract = contract

    def predict(self, image: ImageU8) -> DepthMap:
        """image: (h, w, 3) uint8 RGB. Returns (h, w) float32. Raises DataError on another image."""
        from PIL import Image

        check_bucket_image(image, self.input_size)
        if self._model is None:
            raise TargetError(f"{self.name}: the runner is closed")
        result = self._model.predict({self._contract.input.name: Image.fromarray(image)})
        return np.asarray(result[self._contract.output.name], dtype=np.float32).reshape(self.input_size)

    def close(self) -> None:
        """Free the model."""
        self._model = None
