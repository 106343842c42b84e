"""Two exports from the same inputs are the same files, but for what tells of the day."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from datk.artifact.files import sha256_file
from datk.artifact.manifest import FILE_NAME, LOG_SUFFIXES
from datk.artifact.verify import SUMS, files_below


def test_two_exports_are_byte_identical(
    onnx_export: Path, checkpoint: Path, exporter: Callable[..., Path], tmp_path: Path
) -> None:
    section = {"name": "onnx", "precisions": ["fp32"], "input_size": "70x98"}
    again = exporter(tmp_path / "elsewhere", checkpoint, section) / onnx_export.name
    assert files_below(again) == files_below(onnx_export)
    dated = {FILE_NAME, SUMS}
    differ = {n for n in files_below(again) if sha256_file(again / n) != sha256_file(onnx_export / n)}
    assert {n for n in differ if not n.endswith(LOG_SUFFIXES)} == dated
    lines = [set((folder / SUMS).read_text().splitlines()) for folder in (again, onnx_export)]
    assert {line.split("  ")[1] for line in lines[0] ^ lines[1]} == {FILE_NAME}
