"""ViT-S at 518x518 from weights to three verified int8 files, as one types it: where the time and the memory go.

Random weights that vary (there are no others to ship with a bench), 20 of the built-in photographs to judge on, and, as
always, the 64 images of the built-in bench. Held against 25 minutes and 8 GB on two cores.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from datk.data.photos import builtin_photos
from datk.models.depth_anything import DepthAnything
from datk.models.weights import save_checkpoint
from tests.conformance.conftest import lively

BUDGET_S, BUDGET_GB = 25 * 60, 8
PHOTOS = 20
TARGETS = ("tflite", "coreml", "onnx")
EVERY_S = 2.0


def prepared(folder: Path) -> list[str]:
    """Weights and photographs in folder; the line to run there."""
    torch.manual_seed(0)
    save_checkpoint(lively(DepthAnything("small")), folder / "vits.safetensors", metadata={"licence": "Apache-2.0"})
    photos = folder / "photos"
    photos.mkdir()
    for photo in builtin_photos("validation")[:PHOTOS]:
        shutil.copy(photo.path, photos)
    line = f"export --checkpoint vits.safetensors --target {','.join(TARGETS)} --precision int8 --input-size 518"
    return [sys.executable, "-m", "datk.cli.main", *line.split(), "--images", "photos", "--allow-few", "--out", "run"]


def watched(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds, and the largest proportional set size of all its processes together, GB. The output stays in folder."""
    begun, peak = time.perf_counter(), 0
    with (folder / "output.txt").open("w", encoding="utf-8") as said:
        running = psutil.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        while running.poll() is None:
            peak = max(peak, _shared_out(running))
            time.sleep(EVERY_S)
    if running.returncode != 0:
        raise RuntimeError(f"exit {running.returncode}: {(folder / 'output.txt').read_text(encoding='utf-8')[-3000:]}")
    return time.perf_counter() - begun, peak / 1e9


def _shared_out(first: psutil.Process) -> int:
    """Bytes of a process and its children; a page that several share is counted once."""
    total = 0
    try:
        for process in [first, *first.children(recursive=True)]:
            total += process.memory_full_info().pss
    except psutil.Error:  # one that has just ended
        pass
    return total


def stages(run: Path) -> list[tuple[str, float]]:
    """Seconds of every stage by its own manifest; those of different targets run side by side."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(run.glob("*/manifest.json"))]
    return [(manifest["stage"], manifest["duration_s"]) for manifest in found]


def run() -> list[dict[str, Any]]:
    """Rows of the whole and of each stage."""
    if sys.platform != "linux":
        return [_row("export of three targets: not measured, Linux tells what processes share", None, "", "", None)]
    with tempfile.TemporaryDirectory() as name:
        seconds, peak = watched(prepared(Path(name)), Path(name))
        what = f"small 518x518 int8, {', '.join(TARGETS)}, {PHOTOS} photographs"
        rows = [
            _row(what, seconds, "s", f"budget: {BUDGET_S} s", seconds / BUDGET_S),
            _row(f"{what}: peak", peak, "GB", f"budget: {BUDGET_GB} GB", peak / BUDGET_GB),
        ]
        return rows + [_row(f"  {s}", s_s, "s", "the whole", s_s / seconds) for s, s_s in stages(Path(name) / "run")]


def _row(name: str, value: float | None, unit: str, reference: str, ratio: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "n": int(value is not None),
        "reference": reference,
        "ratio": ratio,
    }
