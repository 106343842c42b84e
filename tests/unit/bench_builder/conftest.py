"""A small benchmark on disk."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from datk.bench_builder.image_list import HEADER

ImageWriter = Callable[[Path, dict[str, list[str]]], None]


@pytest.fixture
def write_images() -> ImageWriter:
    """Write pictures below folder/images and a list of them: `write_images(folder, {scene: [file, ...]})`."""

    def write(folder: Path, scenes: dict[str, list[str]]) -> None:
        rng = np.random.default_rng(0)
        with (folder / "images.csv").open("w", newline="") as handle:
            lines = csv.writer(handle)
            lines.writerow(HEADER)
            for scene, files in scenes.items():
                for file in files:
                    path = folder / "images" / scene / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    coarse = rng.integers(0, 255, (9, 12, 3), np.uint8)
                    cv2.imwrite(str(path), cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC))
                    lines.writerow([scene, file, f"https://example.org/{file}", "CC0-1.0", "the author", "a word"])

    return write
