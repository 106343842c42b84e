"""Look inside a saved .mlpackage through the reference evaluator, whose every value can be kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datk.depth.io_spec import Contract
from datk.depth.runner import ImageU8, check_bucket_image
from datk.targets.coreml.reference.evaluator import Evaluator
from datk.targets.coreml.reference.program import FUNCTION, read_program
from datk.targets.coreml.runner import check_contract
from datk.targets.trace import TracedTensor, depends_on


def open_trace(artifact: Path, contract: Contract) -> CoreMLTrace:
    """A Trace of a saved package, on any system. Raises TargetError when it is damaged or of another contract."""
    return CoreMLTrace(artifact, contract)


class CoreMLTrace:
    """Judges numbers as the reference evaluator does; what a Neural Engine computes it cannot see."""

    label = "coreml-reference"

    def __init__(self, artifact: Path, contract: Contract) -> None:
        program = read_program(artifact, contract.entry or FUNCTION)
        check_contract(program, contract)
        self._size = contract.input_size
        self._evaluator = Evaluator(program)
        self.input_name = program.image.name
        self.output_name = program.outputs[0]
        made = [
            TracedTensor(
                name=name,
                shape=declared.shape,
                made_by=op.type,
                reads=tuple(str(n) for key, several in op.inputs.items() if key not in op.bound for n in several),
            )
            for op in program.operations
            if op.type != "const"
            for name, declared in op.outputs.items()
        ]
        self.tensors = depends_on(made, self.input_name)

    def run(self, image: ImageU8, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """As Trace.run."""
        check_bucket_image(image, self._size)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()  # (1, 3, h, w)
        found = self._evaluator.run(pixels, keep=frozenset(names))
        return {n: found[n].numpy().astype(np.float32) for n in dict.fromkeys(names)}

    def close(self) -> None:
        """Nothing is held between runs."""
