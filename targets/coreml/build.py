"""Compile a deployment module to an .mlpackage: torch.export, coremltools, then our own sealing."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from datk.artifact.files import atomic_path
from datk.depth.io_spec import Contract, Size, contract_for
from datk.errors import TargetError
from datk.models.depth_anything import DepthAnything
from datk.models.passes.channels_first import channels_first
from datk.targets.base import BuildRequest, BuildResult
from datk.targets.chatter import sdk_chatter_off
from datk.targets.coreml.bars import progress_bars_off
from datk.targets.coreml.compress import NAME, PRECISIONS, check_compressed, compress
from datk.targets.coreml.lint import check_program
from datk.targets.coreml.on_device import SCRIPT
from datk.targets.coreml.options import OLDEST
from datk.targets.coreml.reference.program import read_program
from datk.targets.coreml.scheme import scheme
from datk.targets.coreml.seal import write_package

ARTIFACT = "model.mlpackage"
CONVERTER_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    RuntimeError,
)
"""What coremltools raises for a net it cannot convert; it has no exception class of its own."""


def build(request: BuildRequest) -> BuildResult:
    """Write model.mlpackage and the script for Macs into request.out and check what was written.

    request.module takes (1, 3, h, w) float32 RGB 0..255 and returns (1, h, w) float32; for int8 it is the
    program NNCF quantised with this target's scheme. fp16 and int8 packages compute in fp16.
    The package is read back from disk for its checks. Raises TargetError with the converter's own words.
    """
    contract = contract_for(
        input_size=request.input_size,
        depth_kind=request.depth_kind,
        precision=request.precision,
        max_depth_m=request.max_depth_m,
        layout="image",
    )
    oldest = getattr(request.options, "deployment_target", OLDEST[0])
    model = convert(in_layout(request.module, request.options), contract, deployment_target=oldest)
    if request.precision in PRECISIONS:
        model = compress(model, request.precision)
    artifact = request.out / ARTIFACT
    write_package(model, artifact, contract=contract, metadata=request.metadata)
    meant = None
    if request.precision == "int8" and request.float_module is not None:
        float_program = export(request.float_module, request.input_size).module(check_guards=False)
        assert isinstance(float_program, torch.fx.GraphModule)
        meant = len((request.scheme or scheme()).quantizer.selected(float_program))
    program = read_program(artifact)
    checks = check_program(program, contract=contract, module=request.module, meant=meant)
    if request.precision in PRECISIONS:
        checks[NAME] = check_compressed(program, request.precision)
    with atomic_path(request.out / SCRIPT) as part:
        shutil.copyfile(Path(__file__).parent / "device" / SCRIPT, part)
    return BuildResult(artifact=artifact, contract=contract, extra_files=(request.out / SCRIPT,), checks=checks)


def in_layout(module: nn.Module, options: Any) -> nn.Module:
    """The deployment module, or a copy with the encoder in the Neural Engine's layout where the options ask for it.

    Raises TargetError when there is nothing to rewrite: the promise would be empty.
    """
    if getattr(options, "layout", "tokens") == "tokens":
        return module
    copied = copy.deepcopy(module)
    net = getattr(copied, "net", None)
    if not isinstance(net, DepthAnything) or channels_first(net) == 0:
        raise TargetError(
            "layout neural-engine is written for the DINOv2 encoder in float, and this net has another",
            hint="leave the option layout out",
        )
    return copied


def convert(
    module: nn.Module,
    contract: Contract,
    *,
    output_names: tuple[str, ...] | None = None,
    deployment_target: str = OLDEST[0],
) -> Any:
    """The coremltools MLModel of a deployment module, not loaded. Raises TargetError when it is refused.

    output_names: of a module that returns a tuple; one output, named as in the contract, otherwise.
    """
    h, w = contract.input_size
    names = output_names or (contract.output.name,)
    with sdk_chatter_off(), torch.no_grad():
        program = export(module, contract.input_size).run_decompositions({})
        import coremltools as ct

        precision = ct.precision.FLOAT32 if contract.precision == "fp32" else ct.precision.FLOAT16
        image = ct.ImageType(
            name=contract.input.name, shape=(1, 3, h, w), scale=1.0, bias=[0, 0, 0], color_layout=ct.colorlayout.RGB
        )
        with progress_bars_off():
            try:
                return ct.convert(
                    program,
                    inputs=[image],
                    outputs=[ct.TensorType(name=name, dtype=np.float32) for name in names],
                    minimum_deployment_target=ct.target[deployment_target],
                    compute_precision=precision,
                    skip_model_load=True,
                )
            except CONVERTER_ERRORS as error:
                raise TargetError(
                    f"coremltools refused the net for {contract.precision}: {type(error).__name__}: {error}",
                    hint="the target takes nets with constant shapes; see targets/coreml/README.md",
                ) from error


def export(module: nn.Module, input_size: Size) -> torch.export.ExportedProgram:
    """torch.export of a deployment module taking (1, 3, h, w) float32, static shapes."""
    with sdk_chatter_off(), torch.no_grad():
        return torch.export.export(module, (torch.zeros(1, 3, *input_size),))
