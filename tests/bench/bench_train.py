"""Pseudo-labelling throughput as `datk pseudo-label` has it by default, against a plain loop in float32.

Both do what a label needs: decode, predict, stretch, write 16-bit PNG. Ours does more: hashes of picture and label, the
perceptual hash against the benchmarks, a mirrored prediction of one picture in 16, quality figures. Ours is one worker
a core; its rate is counted from the first batch labelled to the last, without what the other workers may have had under
way at the first: starting processes, once a job however long it is, stays out, and the rate is a lower bound. The plain
loop has every core for one photograph at a time.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch

from datk.config.train_sections import PseudoLabelSection
from datk.depth.io_spec import Size
from datk.depth.preprocess import float_input, read_image
from datk.models.depth_anything import DepthAnything
from datk.models.weights import save_checkpoint
from datk.pipeline.labelling import LabelRequest, label, plan_labels
from datk.train.precision import has_native_bf16
from datk.train.start import fresh_net
from tests.bench.bench_net import plain
from tests.bench.heaps import as_in_a_plain_script

ROUNDS = 2
CASES: tuple[tuple[str, Size, int], ...] = (
    ("tiny", (126, 126), 1024),
    ("small", (252, 252), 160),
    ("small", (518, 518), 48),
)
"""Net, (height, width), photographs. The last is the paper's size."""
SHARDS, PLAIN_SHARE = 8, 4
"""Shards of a job; the plain loop gets one photograph in four."""
CPU = torch.device("cpu")


def plain_rate(teacher: DepthAnything, photos: list[Path], out: Path, size: Size) -> float:
    """Photographs a second: read, predict, normalise, write a 16-bit PNG; nothing overlaps, no claims, no hashes."""
    out.mkdir()
    as_in_a_plain_script()
    begun = time.perf_counter()
    with torch.inference_mode():
        for number, path in enumerate(photos):
            disparity = teacher(torch.from_numpy(float_input(read_image(path), size)))[0].numpy()
            unit = (disparity - disparity.min()) / max(float(np.ptp(disparity)), 1e-12)
            cv2.imwrite(str(out / f"{number:06d}.png"), np.round(unit * 65535).astype(np.uint16))
    return len(photos) / (time.perf_counter() - begun)


def our_rate(teacher: Path, photos: Path, count: int, out: Path, size: Size, precision: str) -> float:
    """Photographs a second, at least: those begun and ended between the first batch told as labelled and the last."""
    seen: list[tuple[float, int]] = []

    def progress(done: int, _total: int) -> None:
        if done > (seen[-1][1] if seen else 0):
            seen.append((time.perf_counter(), done))

    section = PseudoLabelSection(input_size=size, shard_size=-(-count // SHARDS))
    request = LabelRequest(
        teacher=str(teacher), images=str(photos), out=out, section=section, device="cpu", precision=precision
    )
    plan = plan_labels(request)
    label(request, note=lambda _: None, progress=progress)
    (begun, before), (ended, after) = seen[0], seen[-1]
    return (after - before - section.batch_size * (plan.workers - 1)) / (ended - begun)


def run() -> list[dict[str, Any]]:
    """Photographs a second, median of interleaved rounds; ratio > 1 means faster than the plain loop."""
    native = has_native_bf16(CPU)
    precisions = ["fp32", *(["bf16"] if native else [])]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for size, side, count in CASES:
            what = f"{size} {side[0]}x{side[1]}"
            here = Path(name) / what
            photos = _photos(here / "photos", count)
            net = fresh_net(size, seed=0).eval()
            save_checkpoint(net, here / "teacher.safetensors", metadata={})
            naive = plain(net).eval()
            rates: dict[str, list[float]] = {way: [] for way in ("plain", *precisions)}
            for number in range(ROUNDS):
                for way, record in rates.items():
                    out = here / f"{way}-{number}"
                    if way == "plain":
                        record.append(plain_rate(naive, photos[::PLAIN_SHARE], out, side))
                    else:
                        record.append(our_rate(here / "teacher.safetensors", here / "photos", count, out, side, way))
            reference = median(rates["plain"])
            rows += [_row(f"{what} {p}", median(rates[p]), reference, ROUNDS) for p in precisions]
            if not native:
                rows.append(_row(f"{what} bf16: not measured, no bf16 in this CPU", None, reference, 0))
    return rows


def _row(what: str, value: float | None, reference: float, n: int) -> dict[str, Any]:
    return {
        "name": f"pseudo-label {what}",
        "value": value,
        "unit": "photographs/s",
        "n": n,
        "reference": f"fp32, naive attention, one at a time: {reference:.3g} photographs/s",
        "ratio": None if value is None else value / reference,
    }


def _photos(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        image = cv2.resize(rng.integers(0, 255, (15, 20, 3), np.uint8), (640, 480))
        cv2.imwrite(str(folder / f"{number:03d}.jpg"), image)
    return sorted(folder.iterdir())
