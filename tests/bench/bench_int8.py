"""int8 of ViT-S in LiteRT and in ONNX Runtime, each against its own fp32 on this machine's CPU: time in turn, and size.

What int8 costs in accuracy is measured at every export; here it is enough that the layers are int8, so few photographs
calibrate. Random weights: no kernel's time depends on them.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from datk.data.photos import builtin_photos
from datk.depth.io_spec import DepthKind, Size
from datk.depth.preprocess import bucket_image, read_image
from datk.depth.runner import ImageU8, Runner
from datk.measure.timing import interleaved_times
from datk.models.deployment import DeploymentModule, deployment_module
from datk.models.depth_anything import DepthAnything
from datk.quantize.ptq import quantize_module
from datk.targets import get
from datk.targets.base import BuildRequest, BuildResult, Target
from tests.conformance.conftest import lively

SIZES: tuple[tuple[Size, int], ...] = (((252, 252), 30), ((518, 518), 12))
"""(height, width), timed rounds."""
CALIBRATED, WARMUP = 4, 3
TARGETS = ("tflite", "onnx")


def built(
    target: Target, module: torch.nn.Module, source: DeploymentModule, precision: str, size: Size, out: Path
) -> BuildResult:
    out.mkdir()
    request = BuildRequest(
        module=module,
        float_module=source,
        precision=precision,
        input_size=size,
        depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT,
        out=out,
    )
    result: BuildResult = target.load(target.build)(request)
    return result


def pair(target: Target, size: Size, photos: list[ImageU8], folder: Path) -> list[tuple[Runner, int]]:
    """Runner and bytes of fp32 and of int8."""
    torch.manual_seed(0)
    module = deployment_module(lively(DepthAnything("small")), size, target.input_form)
    assert target.scheme is not None
    scheme = target.load(target.scheme)()
    program = quantize_module(module, photos, scheme, input_form=target.input_form, input_size=size, seed=0)
    found = []
    for precision, what in (("fp32", module), ("int8", program)):
        result = built(target, what, module, precision, size, folder / f"{target.name}-{precision}-{size[0]}")
        found.append((target.open_for_latency(result.artifact, result.contract), result.artifact.stat().st_size))
    return found


def run() -> list[dict[str, Any]]:
    """Two rows a target and size; ratio: int8's time and size in fp32's."""
    return [row for name in TARGETS for row in of_target(get(name))]


def of_target(target: Target) -> list[dict[str, Any]]:
    if missing := target.missing():
        return [_row(f"{target.name} int8: not measured, {', '.join(missing)} not installed", None, "", 0, "", None)]
    cpu = torch.cpu.get_capabilities()
    has = [name for name in ("avx2", "avx512_vnni", "avx_vnni", "amx_int8", "dotprod", "i8mm") if cpu.get(name)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size, rounds in SIZES:
            photos = [bucket_image(read_image(p.path), size) for p in builtin_photos("calibration")[:CALIBRATED]]
            (fp32, fp32_bytes), (int8, int8_bytes) = pair(target, size, photos, Path(folder))
            calls = [partial(runner.predict, np.ascontiguousarray(photos[0])) for runner in (fp32, int8)]
            theirs, ours = (median(t) for t in interleaved_times(calls, warmup=WARMUP, runs=rounds, settle=True))
            what = (
                f"small {size[0]}x{size[1]} {int8.label} int8, {os.cpu_count()} cores, {' '.join(has) or 'no such set'}"
            )
            rows.append(_row(what, ours, "ms", rounds, f"fp32: {theirs:.4g} ms", ours / theirs))
            size_base = f"fp32: {fp32_bytes / 1e6:.4g} MB"
            rows.append(_row(f"{what}: size", int8_bytes / 1e6, "MB", 1, size_base, int8_bytes / fp32_bytes))
            fp32.close()
            int8.close()
    return rows


def _row(name: str, value: float | None, unit: str, n: int, reference: str, ratio: float | None) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "n": n, "reference": reference, "ratio": ratio}
