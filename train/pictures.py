"""Validation pictures: the same few samples, never trained on, every so many steps: image | target | prediction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from datk.artifact.files import atomic_path
from datk.depth.io_spec import IMAGENET_MEAN, IMAGENET_STD
from datk.train.held_out import HeldOut
from datk.train.samples import Batch
from datk.train.trace import CsvLog
from datk.train.world import World

if TYPE_CHECKING:
    from datk.train.loop import StepLoss

FOLDER, LOSSES = "pictures", "held_out.csv"
JPEG_QUALITY = 90
GAP = 4
"""White pixels between pictures."""
Rgb = NDArray[np.uint8]


class Pictures:
    """Draws pictures/step-N.jpg and adds a line to held_out.csv; only the main process writes."""

    def __init__(self, folder: Path, held_out: HeldOut, *, done: int, world: World) -> None:
        self.folder, self.batch, self.world = folder / FOLDER, held_out.batch, world
        self.log = CsvLog(folder / LOSSES, done=done) if world.main else None

    def draw(self, look: Callable[[Batch, float], StepLoss], step: int, done: float) -> dict[str, float]:
        """look: the net's losses and output for a batch; every process calls it. Returns the losses."""
        loss = look(self.batch, done)
        names, values = ["loss", *loss.parts], [loss.total, *loss.parts.values()]
        row = {"step": step} | {name: float(value) for name, value in zip(names, values, strict=True)}
        if self.log is not None:
            self.log.add(row)
            self.log.flush()
            picture = contact_sheet(self.batch, loss.output.float().cpu().numpy())
            with atomic_path(self.folder / f"step-{step:08d}.jpg") as part:
                written, data = cv2.imencode(
                    ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
                )
                assert written
                data.tofile(part)
        return row


def contact_sheet(batch: Batch, output: NDArray[np.floating]) -> Rgb:
    """One row a sample: image, target (grey where not valid), prediction. output: (B, h, w); near is red."""
    rows = []
    for image, target, valid, predicted in zip(
        batch.clean.numpy(), batch.target.numpy(), batch.valid.numpy(), output, strict=True
    ):
        rgb = image.transpose(1, 2, 0) * np.array(IMAGENET_STD) + np.array(IMAGENET_MEAN)  # (h, w, 3)
        cells = [np.clip(rgb * 255, 0, 255).astype(np.uint8), _coloured(target, valid), _coloured(predicted)]
        rows.append(np.hstack([cv2.copyMakeBorder(c, GAP, GAP, GAP, GAP, cv2.BORDER_CONSTANT, value=(255,) * 3)
                               for c in cells]))  # fmt: skip
    return np.ascontiguousarray(np.vstack(rows), np.uint8)


def _coloured(disparity: NDArray[np.floating], valid: NDArray[np.bool_] | None = None) -> Rgb:
    """(h, w) disparity -> (h, w, 3), smallest blue, largest red as in the official pictures; grey where not valid."""
    from matplotlib import colormaps

    counts = np.isfinite(disparity) if valid is None else valid & np.isfinite(disparity)
    low, high = (float(f(disparity[counts])) if counts.any() else 0.0 for f in (np.min, np.max))
    unit = np.clip((np.nan_to_num(disparity) - low) / max(high - low, 1e-12), 0, 1)
    rgb = (colormaps["Spectral_r"](unit)[..., :3] * 255).astype(np.uint8)
    return np.where(counts[..., None], rgb, np.uint8(128))
