"""Run a .pte program in ExecuTorch's own runtime on this machine's CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from datk.depth.io_spec import Contract, TensorSpec
from datk.depth.runner import DepthMap, ImageU8, check_bucket_image
from datk.errors import DataError, EnvironmentLacks, TargetError
from datk.targets.chatter import sdk_chatter_off
from datk.targets.tflite.quiet import native_output_to

METHOD = "forward"
CONTRACT_METHOD = "datk_contract"
"""Of the program: returns the contract as JSON text."""
METADATA_METHOD = "datk_"
"""Prefix of the methods that return the other entries of a BuildRequest's metadata."""
SCALARS = {"uint8": 0, "float16": 5, "float32": 6}
"""ExecuTorch's numbers of element types, which are torch's (c10/core/ScalarType.h)."""


def open_artifact(artifact: Path, contract: Contract) -> ExecuTorchRunner:
    """A runner for a .pte file. Raises EnvironmentLacks without the runtime, DataError when the file is missing,
    TargetError when the runtime cannot load it or it is not what contract says."""
    return ExecuTorchRunner(artifact, contract)


class ExecuTorchRunner:
    """A Runner over the runtime's Python binding, with the kernels its package brings: XNNPACK and portable ones."""

    label = "executorch-cpu"

    def __init__(self, artifact: Path, contract: Contract) -> None:
        self.name = f"executorch {contract.precision}"
        self.input_size = contract.input_size
        self.depth_kind = contract.depth_kind
        self._program = _load(artifact)
        with native_output_to(None):  # XNNPACK tells what it finds of the CPU
            self._method: Any = self._program.load_method(METHOD)
        _check_contract(self._program, artifact, contract)
        _check_edges(self._method.metadata, artifact, contract)

    def predict(self, image: ImageU8) -> DepthMap:
        """image: (h, w, 3) uint8 RGB of input_size. Returns (h, w) float32. Raises DataError."""
        check_bucket_image(image, self.input_size)
        if self._method is None:
            raise TargetError(f"{self.name}: the runner is closed")
        pixels = torch.from_numpy(np.array(image)).unsqueeze(0)  # (1, h, w, 3), owned and contiguous
        try:
            (depth,) = self._method.execute([pixels])  # (1, h, w)
        except RuntimeError as error:
            raise TargetError(f"{self.name}: ExecuTorch cannot run it: {error}") from error
        return np.array(depth[0].numpy(), dtype=np.float32)  # a copy: the program reuses its memory

    def close(self) -> None:
        """Free the program. Safe to call twice."""
        self._method = self._program = None


def _load(artifact: Path) -> Any:
    if not artifact.is_file():
        raise DataError(f"{artifact}: no such file")
    with native_output_to(None), sdk_chatter_off():
        try:
            from executorch.runtime import Runtime, Verification
        except ImportError as error:
            raise EnvironmentLacks("ExecuTorch is not installed here", hint='pip install "datk[executorch]"') from error
        try:
            program = Runtime.get().load_program(artifact, verification=Verification.InternalConsistency)
        except RuntimeError as error:
            raise TargetError(f"{artifact}: ExecuTorch cannot load it: {error}", hint="export it again") from error
    if METHOD not in program.method_names:
        raise TargetError(f"{artifact}: has no method {METHOD}, it has {', '.join(sorted(program.method_names))}")
    return program


def _check_contract(program: Any, artifact: Path, contract: Contract) -> None:
    """Raise TargetError when the file carries another contract."""
    if CONTRACT_METHOD not in program.method_names:
        return
    (text,) = program.load_method(CONTRACT_METHOD).execute([])
    inside = Contract.model_validate_json(str(text))
    if inside.edges != contract.edges:
        raise TargetError(
            f"{artifact}: the file says {inside.precision}, {inside.signature}; "
            f"its contract says {contract.precision}, {contract.signature}",
            hint="the artifact and its contract.json belong to different exports",
        )


def _check_edges(metadata: Any, artifact: Path, contract: Contract) -> None:
    """Raise TargetError unless the tensors at the method's edges are the contract's."""

    def found(tensor: Any) -> tuple[tuple[int, ...], int]:
        return tuple(tensor.sizes()), int(tensor.dtype())

    def meant(spec: TensorSpec) -> tuple[tuple[int, ...], int]:
        return spec.shape, SCALARS[spec.dtype]

    inputs = [found(metadata.input_tensor_meta(i)) for i in range(metadata.num_inputs())]
    outputs = [found(metadata.output_tensor_meta(i)) for i in range(metadata.num_outputs())]
    expected = [meant(contract.input)], [meant(contract.output)]
    if (inputs, outputs) != expected:
        raise TargetError(
            f"{artifact}: its edges (sizes, type) are {inputs} -> {outputs}, the contract says {expected}",
            hint="the artifact and its contract.json belong to different exports",
        )
