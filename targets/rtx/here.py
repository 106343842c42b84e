"""Whether this machine can run an engine: an NVIDIA GPU of a kind TensorRT-RTX builds for, with its driver."""

from __future__ import annotations

import importlib.util
from functools import cache

from datk.targets.chatter import sdk_chatter_off

DEVICE = 0
"""The first GPU CUDA shows; CUDA_VISIBLE_DEVICES chooses another."""
PIP = 'pip install "datk[rtx]"'


@cache
def not_here() -> str:
    """Why no TensorRT-RTX engine can be run on this machine, in words; empty when one can."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        return f"tensorrt_rtx is not installed: {PIP}"
    try:
        from cuda.bindings import runtime
    except ImportError:
        return f"NVIDIA's cuda-bindings are not installed: {PIP}"
    status, count = runtime.cudaGetDeviceCount()
    if status != runtime.cudaError_t.cudaSuccess:
        return f"no NVIDIA GPU with its driver here; CUDA says {status.name}"
    if not count:
        return "no NVIDIA GPU here"
    status, properties = runtime.cudaGetDeviceProperties(DEVICE)
    if status != runtime.cudaError_t.cudaSuccess:
        return f"CUDA cannot tell what GPU this is: {cuda_says(status)}"
    name, own = properties.name.decode(errors="replace"), f"SM{properties.major}{properties.minor}"
    if own not in (known := capabilities()):
        return f"{name} is {own}, and TensorRT-RTX builds for {', '.join(known)}"
    return ""


def capabilities() -> list[str]:
    """Every compute capability this TensorRT-RTX builds for: SM75, SM80, ..."""
    with sdk_chatter_off():
        import tensorrt_rtx as trt

    return [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]


def cuda_says(status: object) -> str:
    """CUDA's own words for a status, with its name."""
    from cuda.bindings import runtime

    said, words = runtime.cudaGetErrorString(status)
    name = getattr(status, "name", str(status))
    return f"{words.decode(errors='replace')} ({name})" if said == runtime.cudaError_t.cudaSuccess else name
