"""What this machine is: told beside every figure that depends on it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")
ISA_FLAGS = (
    "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
"""Instruction sets that decide whether int8, fp16 or bf16 can be fast here."""
LIBRARIES = (
    "torch", "nncf", "torchao", "onnx", "onnxruntime", "openvino", "litert-torch", "ai-edge-litert",
    "coremltools", "tensorrt-rtx-cu13", "tensorrt", "numpy", "opencv-python-headless",
)  # fmt: skip


@cache
def host_info() -> dict[str, Any]:
    """OS, Python, CPU model, usable cores, memory, instruction sets, GPU. None = the system does not tell.

    No user or machine name, no path: manifests are shared.
    """
    flags = _cpu_flags()
    return {
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "memory_bytes": _memory_bytes(),
        "isa": [f for f in ISA_FLAGS if f in flags],
        "gpu": _gpu(),
    }


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def library_versions(names: tuple[str, ...] = LIBRARIES) -> dict[str, str | None]:
    """Installed version by distribution name; None when it is not installed. Imports none of them."""
    return {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpuinfo(*keys: str) -> str | None:
    if not _CPUINFO.is_file():
        return None
    for line in _CPUINFO.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in keys:
            return value.strip()
    return None


def _cpu_flags() -> set[str]:
    return set((_cpuinfo("flags", "Features") or "").split())


def _cpu_model() -> str | None:
    return _cpuinfo("model name", "Model", "Hardware") or platform.processor() or None


def _memory_bytes() -> int | None:
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names or "SC_PAGE_SIZE" not in names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _gpu() -> str | None:
    """Name and driver of the first NVIDIA GPU, as nvidia-smi tells it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi did not answer ({type(error).__name__})"
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else None
