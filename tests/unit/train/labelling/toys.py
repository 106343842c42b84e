"""A teacher of ten lines and photographs on disk: jobs that take milliseconds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datk.config.train_sections import PseudoLabelSection
from datk.data.sources import ImageSource, open_images
from datk.depth.io_spec import DepthKind
from datk.depth.teacher import Prepared

SECTION = PseudoLabelSection(input_size=(28, 42), batch_size=3, shard_size=4, flip_check_every=2, leak_distance=4)


class BrightTeacher:
    """Brightness is disparity. `pause_s` a batch makes it slow."""

    name, source, digest, licence = "bright", "toy", "0" * 64, "Apache-2.0"
    depth_kind = DepthKind.DISPARITY_AFFINE_INVARIANT
    notes: tuple[str, ...] = ()
    device, precision = "cpu", "fp32"

    def __init__(self, pause_s: float = 0.0) -> None:
        self.identity: dict[str, Any] = {"family": "toy"}
        self.pause_s, self.seen = pause_s, 0

    def prepare(self, photo: NDArray[np.uint8]) -> Prepared:
        small = cv2.resize(photo, (24, 16), interpolation=cv2.INTER_AREA)
        return Prepared(np.ascontiguousarray(small.transpose(2, 0, 1), np.float32))

    def predict(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        time.sleep(self.pause_s)
        self.seen += len(batch)
        return batch.mean(1) + np.float32(3)

    def close(self) -> None:
        pass


def photograph(seed: int) -> NDArray[np.uint8]:
    """(40, 60, 3) uint8 RGB, smooth, unlike any other seed's."""
    blocks = np.random.default_rng(seed).integers(0, 255, (5, 7, 3), np.uint8)
    return np.asarray(cv2.resize(blocks, (60, 40), interpolation=cv2.INTER_CUBIC))


def write_photos(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"p{number:03d}.png"), photograph(number)[..., ::-1])
    return folder


def open_toy(folder: Path, pause_s: float = 0.0) -> tuple[BrightTeacher, ImageSource]:
    """What a worker process opens."""
    return BrightTeacher(pause_s), open_images(folder)
