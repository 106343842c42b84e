"""`flicker`: how much depth trembles on frames of a video where the picture stands still.

Frames lie in a folder a sequence, in name order. Between consecutive frames, pixels whose colour moved by at most
STILL levels in a 3x3 mean are taken to show the same thing at the same depth; what a net changes there is flicker. One
scale a sequence (5-95 % range of its maps), none a frame: a map that breathes as a whole flickers too. No truth needed;
it says nothing about whether depth is right. A camera or light that moves leaves few still pixels: told, not scored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from datk.depth.preprocess import list_images, read_image
from datk.depth.runner import Runner
from datk.errors import DataError, EnvironmentLacks
from datk.evaluate.benchmarks.dense import DenseImage, DenseResult, summed_up
from datk.evaluate.benchmarks.source import Identity, NamedRunner, predict_full_size

STILL = 3.0
MIN_SHARE = 0.02
"""Of the pixels that must stand still for a pair of frames to count."""
VARIANT = "as predicted"
PROTOCOL = (
    f"median |change| between consecutive frames where a 3x3 mean of the picture moves by at most {STILL:g} levels, "
    "in % of the sequence's 5-95 % depth range; no alignment of frames; mean over sequences"
)


@dataclass(frozen=True)
class FlickerSet:
    """Sequences by folder."""

    name: str
    root: Path
    sequences: tuple[tuple[str, tuple[Path, ...]], ...]
    notes: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for key, _ in self.sequences)

    def content(self, index: int) -> str | None:
        digest = hashlib.sha256(b"flicker 1|")
        try:
            for frame in self.sequences[index][1]:
                digest.update(hashlib.sha256(frame.read_bytes()).digest())
        except OSError:
            return None
        return digest.hexdigest()

    def score(self, runner: Runner, index: int) -> DenseImage:
        """One sequence; two frames in memory at a time."""
        changes: list[float] = []
        low, high, counted = np.inf, -np.inf, 0
        before: tuple[NDArray[np.float32], NDArray[np.float64]] | None = None
        for frame in self.sequences[index][1]:
            try:
                photo = read_image(frame)
                depth = predict_full_size(runner, photo, key=frame.relative_to(self.root).as_posix())
            except DataError as error:
                whose = "prediction" if isinstance(runner, NamedRunner) and frame.is_file() else "data"
                return DenseImage(problem=error.message, fault=whose)
            values = depth.astype(np.float64)
            if not np.isfinite(values).all():
                return DenseImage(problem=f"{frame.name}: the prediction holds nan or infinity", fault="prediction")
            smooth = cv2.blur(photo.astype(np.float32), (3, 3))
            if before is not None:
                if before[0].shape != smooth.shape:
                    return DenseImage(problem=f"{frame.name}: frames differ in size", fault="data")
                still = np.abs(smooth - before[0]).max(axis=2) <= STILL
                if still.mean() >= MIN_SHARE:
                    changes.append(float(np.median(np.abs(values - before[1])[still])))
                    counted += int(still.sum())
            low, high = min(low, float(np.quantile(values, 0.05))), max(high, float(np.quantile(values, 0.95)))
            before = (smooth, values)
        if not changes:
            return DenseImage(problem=f"no two frames with {100 * MIN_SHARE:g} % of still pixels", fault="data")
        if not high > low:
            return DenseImage(problem="the output is constant", fault="prediction")
        flicker = 100 * float(np.mean(changes)) / (high - low)
        return DenseImage(figures={VARIANT: {"flicker_percent": flicker}}, n_pixels=counted)

    def parse(self, value: object) -> DenseImage:
        return DenseImage.model_validate(value)

    def result(self, who: Identity, images: Sequence[DenseImage]) -> DenseResult:
        return summed_up(
            self.name, self.keys, images, who, protocol=PROTOCOL, alignment={VARIANT: "none"}, notes=self.notes
        )


class FlickerBenchmark:
    """Needs a folder with frames."""

    name: ClassVar[str] = "flicker"
    title: ClassVar[str] = "trembling of depth where a video stands still"

    def load(self, data_dir: Path | None) -> FlickerSet:
        """data_dir: one folder a sequence. Raises EnvironmentLacks without one, DataError when it holds no sequence."""
        if data_dir is None:
            raise EnvironmentLacks("flicker needs frames of a video", hint="--data DIR, one folder a sequence")
        by_folder: dict[Path, list[Path]] = {}
        for frame in list_images(data_dir):
            by_folder.setdefault(frame.parent, []).append(frame)
        found = [(f.relative_to(data_dir).as_posix(), tuple(v)) for f, v in sorted(by_folder.items()) if len(v) > 1]
        if not found:
            raise DataError(f"{data_dir}: no folder with two frames or more", hint="one folder a sequence")
        return FlickerSet(self.name, data_dir, tuple(found))


BENCHMARK = FlickerBenchmark()
