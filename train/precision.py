"""Which device computes, and whether bfloat16 is native there. Asked-for arithmetic is never replaced silently."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from datk.errors import EnvironmentLacks

Precision = Literal["fp32", "bf16"]


def choose_device(wanted: str, *, index: int | None = None) -> torch.device:
    """auto: the GPU when torch sees one, else the CPU. index: which GPU, where several processes share a machine.

    Raises EnvironmentLacks when cuda is asked for and absent, or when the machine has fewer GPUs than processes.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise EnvironmentLacks("device: cuda, but torch sees no CUDA GPU", hint="set device: auto or cpu")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and index is not None:
        if index >= torch.cuda.device_count():
            raise EnvironmentLacks(
                f"process {index} of this machine has no GPU: torch sees {torch.cuda.device_count()}",
                hint=f"torchrun --nproc-per-node {torch.cuda.device_count()}",
            )
        return torch.device("cuda", index)
    return torch.device(wanted)


def has_native_bf16(device: torch.device) -> bool:
    """True where bfloat16 matrix products run in hardware (AVX512-BF16, AMX, Arm BF16, CUDA compute 8.0)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """fp32 | bf16 as asked; auto takes bf16 where native. Raises EnvironmentLacks for bf16 where it is emulated."""
    if wanted == "auto":
        return "bf16" if has_native_bf16(device) else "fp32"
    if wanted == "bf16" and not has_native_bf16(device):
        raise EnvironmentLacks(
            f"precision: bf16, but this {device.type} has no native bfloat16 (emulated it is slower than fp32)",
            hint="set precision: fp32 or auto",
        )
    return "bf16" if wanted == "bf16" else "fp32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager:
    """The context the forward pass runs in; losses are computed outside it, in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
