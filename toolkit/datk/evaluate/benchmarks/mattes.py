"""`mattes`: does depth follow hair, fences, leaves? Boundary recall on photographs with a matte of the nearer object.

images/NAME.jpg and mattes/NAME.png (8 bits, above 127 = the object, which is nearer than what is behind it), such as
matting data sets give. Recall alone: a matte does not say where else depth should jump (Bochkovskii et al. 2024).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import DepthKind
from datk.depth.preprocess import list_images, read_image
from datk.depth.runner import Runner
from datk.errors import DataError, EnvironmentLacks
from datk.evaluate.benchmarks.dense import DenseImage, DenseResult, summed_up
from datk.evaluate.benchmarks.source import Identity, NamedRunner, predict_full_size
from datk.evaluate.boundary import boundary_recall
from datk.evaluate.metrics import NEAREST, REFERENCE_CAP

VARIANT = "as predicted"
PROTOCOL = (
    "boundary recall over neighbour pixels from object to background, weighted over ratios 1.05 to 1.25; metric depth "
    f"as it is, relative maps stretched so that the farthest pixel lies {REFERENCE_CAP:g} times as far as the nearest"
)


@dataclass(frozen=True)
class MatteSet:
    """Photographs with mattes."""

    name: str
    root: Path
    pairs: tuple[tuple[Path, Path], ...]
    missing: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(image.relative_to(self.root).as_posix() for image, _ in self.pairs)

    def content(self, index: int) -> str | None:
        try:
            digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.pairs[index]]
        except OSError:
            return None
        return hashlib.sha256(f"mattes 1|{digests}".encode()).hexdigest()

    def score(self, runner: Runner, index: int) -> DenseImage:
        image, matte = self.pairs[index]
        try:
            photo = read_image(image)
            alpha = cv2.imdecode(np.frombuffer(matte.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
            if alpha is None or alpha.shape != photo.shape[:2]:
                shape = None if alpha is None else alpha.shape
                raise DataError(f"{matte}: matte is {shape}, the image {photo.shape[:2]}")
        except (OSError, DataError) as error:
            return DenseImage(problem=str(error), fault="data")
        try:
            depth = predict_full_size(runner, photo, key=self.keys[index])
        except DataError as error:
            if not isinstance(runner, NamedRunner):
                raise
            return DenseImage(problem=error.message, fault="prediction")
        stretched = _positive_depth(depth.astype(np.float64), runner.depth_kind)
        if stretched is None:
            return DenseImage(problem="the prediction is constant or holds nan or infinity", fault="prediction")
        recall = boundary_recall(stretched, alpha > 127)
        if math.isnan(recall):
            return DenseImage(problem=f"{matte}: the matte has no border", fault="data")
        return DenseImage(figures={VARIANT: {"boundary_recall": recall}}, n_pixels=alpha.size)

    def parse(self, value: object) -> DenseImage:
        return DenseImage.model_validate(value)

    def result(self, who: Identity, images: Sequence[DenseImage]) -> DenseResult:
        lost = dict.fromkeys(self.missing, "has no matte")
        return summed_up(
            self.name, self.keys, images, who, protocol=PROTOCOL, alignment={VARIANT: "none"}, missing=lost
        )


def _positive_depth(values: NDArray[np.float64], kind: DepthKind) -> NDArray[np.float64] | None:
    """(H, W) depth > 0, or None when the map cannot be one."""
    if not np.isfinite(values).all() or not values.max() > values.min():
        return None
    if kind is DepthKind.DEPTH_METRIC_M:
        return np.maximum(values, NEAREST)
    share = (values - values.min()) / (values.max() - values.min())
    if kind is DepthKind.DEPTH_AFFINE_INVARIANT:
        return np.asarray(1 + share * (REFERENCE_CAP - 1), np.float64)
    low = 1 / REFERENCE_CAP
    return np.asarray(1 / (low + (1 - low) * share), np.float64)


class MatteBenchmark:
    """Needs a folder with images/ and mattes/."""

    name: ClassVar[str] = "mattes"
    title: ClassVar[str] = "boundary recall on photographs with mattes"

    def load(self, data_dir: Path | None) -> MatteSet:
        """Raises EnvironmentLacks without a folder, DataError when nothing pairs."""
        if data_dir is None:
            raise EnvironmentLacks("mattes needs photographs with mattes", hint="--data DIR with images/ and mattes/")
        pairs, missing = [], []
        for image in list_images(data_dir / "images"):
            matte = (data_dir / "mattes" / image.relative_to(data_dir / "images")).with_suffix(".png")
            if matte.is_file():
                pairs.append((image, matte))
            else:
                missing.append(image.relative_to(data_dir).as_posix())
        if not pairs:
            raise DataError(f"{data_dir}: no image has a matte", hint="expected mattes/NAME.png for images/NAME.jpg")
        return MatteSet(self.name, data_dir, tuple(pairs), tuple(missing))


BENCHMARK = MatteBenchmark()
