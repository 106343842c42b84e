"""What NVIDIA's own software says: TensorRT-RTX's parser and builder here, TensorRT itself where it is."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datk.artifact.files import atomic_path
from datk.depth.io_spec import Contract

RTX_MODULE = "tensorrt_rtx"
ENGINE_MODULE = "tensorrt"
RTX_PIP = 'pip install "datk[jetson]"'


def check_rtx_build(model: Path, contract: Contract) -> dict[str, Any]:
    """Check record `tensorrt-rtx-build`: parsed and built, strongly typed, for SM86, without a GPU.

    Parser errors stand verbatim in detail. Says nothing about a Jetson's speed or numbers.
    """
    if importlib.util.find_spec(RTX_MODULE) is None:
        detail = f"{RTX_MODULE} is not installed here (x86-64 Linux only): {RTX_PIP}"
        return {"status": "not_measured", "detail": detail}
    said = run_rtx(model)
    figures = {k: v for k, v in said.items() if k not in ("ok", "errors")}
    if not said["ok"]:
        detail = "\n".join(said["errors"]) or f"{RTX_MODULE} gave no reason"
        return {"status": "failed", "detail": f"{said['stage']}: {detail}", **figures}
    if problem := edges_problem(said, contract):
        return {"status": "failed", "detail": problem, **figures}
    detail = (
        f"TensorRT-RTX {said['version']} parsed it into {said['layers']} layers and built a strongly typed engine of "
        f"{said['engine_bytes'] / 1e6:.1f} MB for {', '.join(said['compute_capabilities'])}; not run, and not a Jetson"
    )
    return {"status": "passed", "detail": detail, **figures}


def run_rtx(model: Path, engine: Path | None = None, left_out: Sequence[str] = ()) -> dict[str, Any]:
    """Parse and build an ONNX file with TensorRT-RTX in a process of its own; what rtx_probe.py says of it.

    engine: where to keep what was built, for every compute capability but left_out; it appears whole or not at all.
    A process that dies is {"ok": False} with the last line it wrote.
    """
    with tempfile.TemporaryDirectory() as folder:
        result, made = Path(folder) / "result.json", Path(folder) / "engine"
        program = Path(__file__).with_name("rtx_probe.py")
        kept = [str(made), ",".join(left_out)] if engine is not None else []
        ran = subprocess.run(
            [sys.executable, str(program), str(model.resolve()), str(result), *kept],
            capture_output=True, text=True, errors="replace", cwd=folder, check=False,
        )  # fmt: skip
        if ran.returncode != 0 or not result.is_file():
            last = ran.stderr.strip().splitlines()[-1:] or [f"exit status {ran.returncode}"]
            return {"ok": False, "stage": "process", "errors": [f"{RTX_MODULE} ended early: {last[0]}"]}
        said: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        if engine is not None and said["ok"]:
            with atomic_path(engine) as part:
                shutil.copyfile(made, part)
    return said


def edges_problem(said: dict[str, Any], contract: Contract) -> str:
    """What differs between the edges of what was built and the contract's; empty when nothing does."""
    expected = [
        [[contract.input.name, "UINT8", list(contract.input.shape)]],
        [[contract.output.name, "FLOAT", list(contract.output.shape)]],
    ]
    if [said["inputs"], said["outputs"]] == expected:
        return ""
    return f"engine edges {said['inputs']} -> {said['outputs']}, the contract says {expected}"


def check_engine(script: Path) -> dict[str, Any]:
    """Check record `tensorrt-engine`: the device script itself, where TensorRT and a GPU are; else why not.

    script: build_and_check.py, lying beside its plan, model and golden inputs.
    """
    if importlib.util.find_spec(ENGINE_MODULE) is None:
        detail = f"{ENGINE_MODULE} is not installed here (on a Jetson it comes with JetPack); run {script.name} there"
        return {"status": "not_measured", "detail": detail}
    result = script.with_name(".engine_check.json")
    looking = ["--layers"] if script.with_name("layers.npz").is_file() else []
    try:
        ran = subprocess.run(
            [sys.executable, str(script.resolve()), "--json", str(result.resolve()), *looking],
            capture_output=True, text=True, errors="replace", cwd=script.parent, check=False,
        )  # fmt: skip
        if not result.is_file():
            last = ran.stderr.strip().splitlines()[-1:] or [f"exit status {ran.returncode}"]
            return {"status": "failed", "detail": f"{script.name} ended early: {last[0]}"}
        said: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    finally:
        result.unlink(missing_ok=True)
    return said
