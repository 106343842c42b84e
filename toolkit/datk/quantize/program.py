"""Quantised programs on disk, as torch.export's own .pt2 archive."""

from __future__ import annotations

import importlib
import io
import json
import zipfile
from pathlib import Path

import torch
from torch.fx import GraphModule

from datk.artifact.files import atomic_path
from datk.errors import CheckpointError
from datk.quantize.calibration import RECORD
from datk.quantize.ptq import export_program
from datk.targets.chatter import sdk_chatter_off


def save_program(module: GraphModule, example: torch.Tensor, path: Path) -> None:
    """Write module as a .pt2 archive, atomically, with its calibration record. example: one input as it takes it.

    The archive is made in memory: torch's own file writer (PyTorchStreamWriter) tells a full disk as a RuntimeError
    without errno, and its destructor then throws again, which ends the interpreter whenever it is collected.
    """
    program, archive = export_program(module, example), io.BytesIO()
    with sdk_chatter_off():
        torch.export.save(program, archive, extra_files={RECORD: json.dumps(module.meta.get(RECORD, []))})
    with atomic_path(path) as part:
        part.write_bytes(archive.getbuffer())


def load_program(path: Path) -> GraphModule:
    """Read back what save_program wrote. Raises CheckpointError when path is no readable .pt2 archive."""
    register_quantized_ops()
    kept = {RECORD: ""}
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path}: not a .pt2 archive or cut short", hint="quantise again: datk quantize")
    try:
        with sdk_chatter_off():
            program = torch.export.load(path, extra_files=kept)
    except (RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: torch.export cannot read it ({error})", hint="quantise again") from error
    module = program.module(check_guards=False)
    assert isinstance(module, GraphModule)
    module.meta[RECORD] = json.loads(kept[RECORD] or "[]")
    return module


def register_quantized_ops() -> None:
    """Register torch.ops.quantized_decomposed, without which a quantised archive does not load."""
    with sdk_chatter_off():
        importlib.import_module("torchao.quantization.pt2e")
        importlib.import_module("torch.ao.quantization.fx._decomposed")
