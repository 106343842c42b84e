"""Every installed target on `tiny` at 126x126: export time and peak memory, and the artifact's latency beside torch.

Each export runs in a process of its own, so that the peak is its own. Ratios: export time to torch.export's of the
same net; peak memory to that process's peak before the build; latency to torch eager, taken in turn.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from datk.depth.io_spec import Contract, DepthKind
from datk.depth.runner import Runner
from datk.measure.memory import peak_resident_bytes
from datk.models.deployment import DeploymentModule, deployment_module
from datk.models.depth_anything import DepthAnything
from datk.models.presets import preset
from datk.targets import available, get
from datk.targets.base import BuildRequest, Target

SIZE = (126, 126)
RUNS = 15
THREADS = 1
"""For torch and artifact alike: with more, another job on a small machine decides the ratio."""


def net(input_form: str) -> DeploymentModule:
    torch.manual_seed(0)
    return deployment_module(DepthAnything(preset("tiny")), SIZE, input_form)


def peak_mb() -> float:
    """Largest resident size of this process so far, MB. Not getrusage's: that one is inherited from the parent."""
    peak = peak_resident_bytes()
    assert peak is not None, "this system does not tell a process's memory"
    return peak / 1e6


def export_one(name: str, precision: str, out: Path) -> dict[str, Any]:
    """Build in this process. Returns seconds, torch.export's seconds, peaks in MB, artifact name and contract."""
    target = get(name)
    module = net(target.input_form)
    uint8 = target.input_form == "nhwc_uint8"
    example = torch.zeros((1, *SIZE, 3), dtype=torch.uint8) if uint8 else torch.zeros((1, 3, *SIZE))
    started = time.perf_counter()
    torch.export.export(module, (example,))
    reference_s, before_mb = time.perf_counter() - started, peak_mb()
    request = BuildRequest(
        module=module,
        float_module=module,
        precision=precision,
        input_size=SIZE,
        depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT,
        out=out,
    )
    started = time.perf_counter()
    result = target.load(target.build)(request)
    return {
        "seconds": time.perf_counter() - started,
        "reference_s": reference_s,
        "peak_mb": peak_mb(),
        "before_mb": before_mb,
        "artifact": result.artifact.name,
        "contract": result.contract.model_dump(mode="json"),
    }


def export_apart(name: str, precision: str, out: Path) -> dict[str, Any]:
    """export_one in a process of its own."""
    said = out.with_suffix(".json")
    command = [sys.executable, __file__, name, precision, str(out), str(said)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise RuntimeError(f"export of {name} {precision} failed:\n{ran.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(said.read_text(encoding="utf-8"))
    return result


def open_for_latency(target: Target, artifact: Path, contract: Contract) -> Runner:
    """The target's runner, in the form it is timed in where it has one."""
    assert target.runner is not None
    opener = target.load(target.runner)
    wanted = {"purpose": "latency", "threads": THREADS}
    timed = {k: v for k, v in wanted.items() if k in inspect.signature(opener).parameters}
    runner: Runner = opener(artifact, contract, **timed)
    return runner


def latency(runner: Runner) -> tuple[float, float]:
    """Median ms of the artifact and of torch eager on one image, in turn, after two warm-up turns."""
    module = net("nhwc_uint8")
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    tensor = torch.from_numpy(image[None])
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(RUNS + 2):
        for call, record in ((lambda: runner.predict(image), times[0]), (lambda: module(tensor), times[1])):
            started = time.perf_counter()
            with torch.inference_mode():
                call()
            if turn >= 2:
                record.append(1e3 * (time.perf_counter() - started))
    return median(times[0]), median(times[1])


def run() -> list[dict[str, Any]]:
    """Rows of name, value, unit, n, reference, ratio; a target whose SDK is missing is left out by name."""
    torch.set_num_threads(THREADS)
    rows: list[dict[str, Any]] = []
    for name, target in available().items():
        if missing := target.missing():
            rows.append(_row(f"{name}: not installed ({', '.join(missing)})", None, "", 0, "", None))
            continue
        precision = next(p for p in target.default_precisions if p != "int8")
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            out.mkdir()
            said = export_apart(name, precision, out)
            what = f"tiny {SIZE[0]}x{SIZE[1]} {name} {precision}"
            base = f"torch.export: {said['reference_s']:.3g} s"
            rows.append(_row(f"{what} export", said["seconds"], "s", 1, base, said["seconds"] / said["reference_s"]))
            base = f"before the build: {said['before_mb']:.0f} MB"
            rows.append(_row(f"{what} peak", said["peak_mb"], "MB", 1, base, said["peak_mb"] / said["before_mb"]))
            if target.runner is None:
                continue
            runner = open_for_latency(target, out / said["artifact"], Contract.model_validate(said["contract"]))
            if "reference" not in runner.label:  # an evaluator in Python says nothing about speed
                ours, theirs = latency(runner)
                base = f"torch eager: {theirs:.4g} ms"
                rows.append(_row(f"{what} latency ({runner.label})", ours, "ms", RUNS, base, ours / theirs))
            runner.close()
    return rows


def _row(name: str, value: float | None, unit: str, n: int, reference: str, ratio: float | None) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "n": n, "reference": reference, "ratio": ratio}


if __name__ == "__main__":
    if len(sys.argv) == 5:
        figures = export_one(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
        Path(sys.argv[4]).write_text(json.dumps(figures), encoding="utf-8")
    else:
        for row in run():
            print(json.dumps(row))
