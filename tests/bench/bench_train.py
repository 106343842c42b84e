"""Pseudo-labelling throughput: batches with decoding ahead against a plain loop, one photograph at a time."""

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
from datk.depth.preprocess import float_input, read_image
from datk.models.depth_anything import DepthAnything
from datk.train.labelling.net_teacher import NetTeacher
from datk.train.pseudo_label import label_images
from datk.train.start import fresh_net

PHOTOS, ROUNDS = 16, 3
SIZE = (126, 126)


def plain_loop(teacher: DepthAnything, photos: list[Path], out: Path) -> None:
    """Read, predict, normalise, write a 16-bit PNG; nothing overlaps, no ledger, no hashes."""
    with torch.inference_mode():
        for number, path in enumerate(photos):
            disparity = teacher(torch.from_numpy(float_input(read_image(path), SIZE)))[0].numpy()
            unit = (disparity - disparity.min()) / max(float(np.ptp(disparity)), 1e-12)
            cv2.imwrite(str(out / f"{number:06d}.png"), np.round(unit * 65535).astype(np.uint16))


def ours_labels(net: DepthAnything, photos: Path, out: Path, section: PseudoLabelSection) -> None:
    teacher = NetTeacher(
        net, source="bench", licence="none", input_size=section.input_size, device="cpu", precision="fp32"
    )
    label_images(teacher, open_images(photos), out, section)


def run() -> list[dict[str, Any]]:
    """Photographs a second, median of interleaved rounds; ratio > 1 means faster than the plain loop."""
    teacher = fresh_net("tiny", seed=0).eval()
    section = PseudoLabelSection(input_size=SIZE, batch_size=8)
    ours, plain = [], []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        photos = _photos(root / "photos")
        for number in range(ROUNDS + 1):  # the first warms up
            gc.collect()
            begun = time.perf_counter()
            ours_labels(teacher, root / "photos", root / f"ours{number}", section)
            middle = time.perf_counter()
            (root / f"plain{number}").mkdir()
            plain_loop(teacher, photos, root / f"plain{number}")
            if number > 0:
                ours.append(PHOTOS / (middle - begun))
                plain.append(PHOTOS / (time.perf_counter() - middle))
    return [
        {
            "name": f"pseudo-label tiny {SIZE[0]}x{SIZE[1]} fp32, batch 8",
            "value": median(ours),
            "unit": "photographs/s",
            "n": ROUNDS,
            "reference": f"one at a time, {median(plain):.1f} photographs/s",
            "ratio": median(ours) / median(plain),
        }
    ]


def _photos(folder: Path) -> list[Path]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(PHOTOS):
        image = cv2.resize(rng.integers(0, 255, (15, 20, 3), np.uint8), (400, 300))
        cv2.imwrite(str(folder / f"{number:03d}.jpg"), image)
    return sorted(folder.iterdir())
