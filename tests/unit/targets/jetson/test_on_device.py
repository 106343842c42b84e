"""Which files of an export go to a device: those for the TensorRT it has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datk.artifact.files import sha256_file
from datk.depth.io_spec import DepthKind, contract_for
from datk.errors import DataError, EnvironmentLacks
from datk.targets.jetson.on_device import SCRIPTS, device_build
from datk.targets.jetson.plan import WEAK, build_plan


def export(folder: Path, weak: str | None = None) -> Path:
    for name in ("model.onnx", WEAK, *SCRIPTS, "layers.npz"):
        (folder / name).write_bytes(name.encode())
    contract = contract_for(input_size=(14, 14), depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision="fp16")
    older = weak or folder / WEAK
    plan = build_plan(folder / "model.onnx", contract, engine="e.engine", golden=None, weak=older, layers="layers.npz")
    (folder / "build_plan.json").write_text(json.dumps(plan))
    return folder


@pytest.mark.parametrize(
    ("version", "models"),
    [
        ("8.6.2", [WEAK]),
        ("10.3.0.30", ["model.onnx"]),
        ("11.4.1", ["model.onnx"]),
        ("unknown", [WEAK, "model.onnx"]),
    ],
)
def test_the_file_for_its_tensorrt_is_sent_and_all_where_that_is_unknown(
    tmp_path: Path, version: str, models: list[str]
) -> None:
    build = device_build(export(tmp_path), version)
    assert [name for name in build.files if name.endswith(".onnx")] == models
    assert build.script == "build_and_check.py" and {*SCRIPTS, "build_plan.json"} <= set(build.files)
    (text,) = build.written_here.values()
    assert text("8.6.2") == f"{sha256_file(tmp_path / WEAK)} 8.6.2"
    assert text("10.7.0") == f"{sha256_file(tmp_path / 'model.onnx')} 10.7.0"


def test_what_no_line_is_for_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    export(tmp_path, weak="left out: the export's option tensorrt8 is false")
    with pytest.raises(EnvironmentLacks, match="option tensorrt8 is false") as caught:
        device_build(tmp_path, "8.6.2")
    assert "--option tensorrt8=true" in str(caught.value.hint)
    with pytest.raises(EnvironmentLacks, match=r"TensorRT 8.5.2 is older than 8.6 \(JetPack 6.0"):
        device_build(tmp_path, "8.5.2")
    plan = json.loads((tmp_path / "build_plan.json").read_text())
    (tmp_path / "build_plan.json").write_text(json.dumps(plan | {"schema_version": 1}))
    with pytest.raises(DataError, match="of an older datk"):
        device_build(tmp_path, "10.7.0")
