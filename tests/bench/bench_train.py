"""Pseudo-labelling throughput: shards, batches, decoding and encoding beside the net, against a plain loop in float32.

Both do what a label needs: decode, predict, stretch, write 16-bit PNG. Ours does more: hashes of picture and label, the
perceptual hash against the benchmarks, a mirrored prediction of one picture in 16, quality figures.
"""

from __future__ import annotations

import gc
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch

from datk.config.train_sections import PseudoLabelSection
from datk.data.sources import open_images
from datk.depth.io_spec import Size
from datk.depth.preprocess import float_input, read_image
from datk.models.depth_anything import DepthAnything
from datk.train.labelling.keep_out import KeepOut, benchmark_images
from datk.train.labelling.net_teacher import NetTeacher
from datk.train.precision import has_native_bf16
from datk.train.pseudo_label import label_images
from datk.train.start import fresh_net
from tests.bench.bench_net import plain
from tests.bench.heaps import as_in_a_plain_script, as_in_datk

PHOTOS, ROUNDS = 16, 2
"""As many as share one mirrored prediction."""
CASES: tuple[tuple[str, Size], ...] = (("tiny", (126, 126)), ("small", (252, 252)), ("small", (518, 518)))
"""The last is the paper's size."""
CPU = torch.device("cpu")


def plain_loop(teacher: DepthAnything, photos: list[Path], out: Path, size: Size) -> None:
    """Read, predict, normalise, write a 16-bit PNG; nothing overlaps, no claims, no hashes."""
    out.mkdir()
    with torch.inference_mode():
        for number, path in enumerate(photos):
            disparity = teacher(torch.from_numpy(float_input(read_image(path), size)))[0].numpy()
            unit = (disparity - disparity.min()) / max(float(np.ptp(disparity)), 1e-12)
            cv2.imwrite(str(out / f"{number:06d}.png"), np.round(unit * 65535).astype(np.uint16))


def our_labels(
    net: DepthAnything, photos: Path, out: Path, section: PseudoLabelSection, precision: str, keep_out: KeepOut
) -> None:
    assert section.input_size is not None
    teacher = NetTeacher(
        net, source="bench", licence="none", input_size=section.input_size, device="cpu", precision=precision
    )
    label_images(teacher, open_images(photos), out, section, keep_out=keep_out)


def run() -> list[dict[str, Any]]:
    """Photographs a second, median of interleaved rounds; ratio > 1 means faster than the plain loop."""
    native = has_native_bf16(CPU)
    precisions = ["fp32", *(["bf16"] if native else [])]
    rows: list[dict[str, Any]] = []
    keep_out = benchmark_images(())  # once a job, however many photographs it has
    with tempfile.TemporaryDirectory() as name:
        photos = _photos(Path(name) / "photos")
        for size, side in CASES:
            net = fresh_net(size, seed=0).eval()
            naive = plain(net).eval()
            section = PseudoLabelSection(input_size=side, batch_size=4, threads=torch.get_num_threads())
            seconds: dict[str, list[float]] = {what: [] for what in ("plain", *precisions)}
            for number in range(ROUNDS + 1):  # the first warms up
                gc.collect()
                for what, record in seconds.items():
                    out = Path(name) / f"{size}-{side[0]}-{what}-{number}"
                    (as_in_a_plain_script if what == "plain" else as_in_datk)()
                    begun = time.perf_counter()
                    if what == "plain":
                        plain_loop(naive, photos, out, side)
                    else:
                        our_labels(net, photos[0].parent, out, section, what, keep_out)
                    if number > 0:
                        record.append(time.perf_counter() - begun)
            reference = PHOTOS / median(seconds["plain"])
            for precision in precisions:
                value = PHOTOS / median(seconds[precision])
                rows.append(_row(f"{size} {side[0]}x{side[1]} {precision}", value, reference, ROUNDS))
            if not native:
                why = f"{size} {side[0]}x{side[1]} bf16: not measured, no bf16 in this CPU"
                rows.append(_row(why, None, reference, 0))
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


def _photos(folder: Path) -> list[Path]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(PHOTOS):
        image = cv2.resize(rng.integers(0, 255, (15, 20, 3), np.uint8), (640, 480))
        cv2.imwrite(str(folder / f"{number:03d}.jpg"), image)
    return sorted(folder.iterdir())
