"""Run an export's build_and_check.py in this process on the stand-in for TensorRT and CUDA, NOT NVIDIA's."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from datk.targets.jetson.on_device import SCRIPTS

STAND_IN = Path(__file__).parents[2] / "farm" / "stand_in_tensorrt" / "tensorrt" / "__init__.py"


def check(
    folder: Path,
    patch: pytest.MonkeyPatch,
    *arguments: str,
    fault: str = "",
    version: str = "10.7.0",
) -> tuple[int, dict[str, Any], ModuleType]:
    """(exit status, the script's JSON, the stand-in's module) of a folder as exported; always built anew."""
    patch.setattr(ctypes, "CDLL", ctypes.CDLL)  # the stand-in puts its own there; put back with the patch
    for script in SCRIPTS:
        patch.delitem(sys.modules, script[: -len(".py")], raising=False)
    patch.syspath_prepend(folder)
    patch.setenv("STAND_IN_VERSION", version)
    patch.setenv("STAND_IN_FAULT", fault)
    trt = _module(STAND_IN, "tensorrt")
    patch.setitem(sys.modules, "tensorrt", trt)
    script = _module(folder / "build_and_check.py", "build_and_check")
    result = folder / "result.json"
    words = ["--plan", str(folder / "build_plan.json"), "--json", str(result), "--runs", "2", "--rebuild"]
    status = script.main([*words, *arguments])
    return status, json.loads(result.read_text()), trt


def _module(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
