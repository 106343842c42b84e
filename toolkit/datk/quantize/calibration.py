"""What a calibration set must be before NNCF sees it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from datk.depth.io_spec import Size
from datk.errors import DataError
from datk.targets.base import InputForm

RECORD = "datk.calibration"
"""Key in a quantised program's meta, and its file in the archive: what record_of gives."""
DARKEST_BRIGHTEST = 16
"""A set whose brightest value lies below this was scaled to 0..1 or normalised before it was rounded to 8 bits."""
SHARE_LEFT_RIGHT = (2, 4)
"""Rows and columns of the coarse colour map that is kept of each image."""


def check_calibration(
    calibration: Sequence[NDArray[np.uint8]],
    input_size: Size,
    *,
    min_images: int = 1,
    names: Sequence[str] | None = None,
) -> None:
    """Raise DataError unless calibration is a usable set of (h, w, 3) uint8 RGB images of input_size.

    Names the first wrong image: another shape or type, NaN, one flat colour (its ranges would be points), or values
    that were normalised already. min_images: fewer are refused. names: of the images, for messages.
    """
    if len(calibration) < max(1, min_images):
        found = "empty" if len(calibration) == 0 else f"too small: {len(calibration)} of at least {min_images} images"
        raise DataError(
            f"the calibration set is {found}", hint="name a folder of photographs: --calibration DIR (100 to 300 do)"
        )
    expected = (*input_size, 3)
    for number, image in enumerate(calibration):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != expected:
            raise DataError(
                f"{image_name(number, names)}: expected uint8 RGB of shape {expected}, got {_kind(image)}",
                hint="resize with datk.depth.preprocess.bucket_image(image, size); normalisation is inside the net",
            )
        if int(image.min()) == int(image.max()) or bool((image == image[:1, :1]).all()):
            raise DataError(
                f"{image_name(number, names)} is one flat colour: no activation range can be learned from it",
                hint="leave it out, and calibrate on photographs like those the device will see",
            )
    if max(int(image.max()) for image in calibration) < DARKEST_BRIGHTEST:
        raise DataError(
            f"no calibration image has a value above {max(int(image.max()) for image in calibration)}: they were "
            "normalised or scaled to 0..1 before (double normalisation)",
            hint="give RGB in 0..255 as decoded; normalisation is inside the net",
        )


def image_name(number: int, names: Sequence[str] | None) -> str:
    """An image of the set in words: its number, from 0, and its file's name where that is known."""
    return f"calibration image {number}" + (f" ({names[number]})" if names is not None else "")


def _kind(image: object) -> str:
    if not isinstance(image, np.ndarray):
        return type(image).__name__
    bad = image.dtype.kind == "f" and not bool(np.isfinite(image).all())
    return f"{image.dtype} {image.shape}" + (" with NaN or infinity" if bad else "")


def colour_map(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean colour over a 2x4 grid, (2, 4, 3) float32 in the image's channel order. image: (h, w, 3) uint8."""
    rows, columns = SHARE_LEFT_RIGHT
    bands = [np.array_split(band, columns, axis=1) for band in np.array_split(image, rows, axis=0)]
    return np.array([[cell.reshape(-1, 3).mean(0) for cell in band] for band in bands], np.float32)


def record_of(images: Sequence[NDArray[np.uint8]]) -> dict[str, list[object]]:
    """{RECORD: per image its colour map and standard deviation}: enough to see at export whether calibration saw
    photographs as the net is fed them (datk.quantize.input_check)."""
    return {RECORD: [{"colours": colour_map(i).tolist(), "std": float(i.std())} for i in images]}


def choose(calibration: Sequence[NDArray[np.uint8]], *, count: int, seed: int) -> list[NDArray[np.uint8]]:
    """At most count images, drawn without repetition by seed, in drawn order."""
    return [calibration[i] for i in drawn_order(len(calibration), count=count, seed=seed)]


def drawn_order(n: int, *, count: int, seed: int) -> list[int]:
    """Which of n images choose() takes, in its order."""
    return [int(i) for i in np.random.default_rng(seed).permutation(n)[:count]]


def input_tensor(image: NDArray[np.uint8], input_form: InputForm) -> torch.Tensor:
    """(h, w, 3) uint8 RGB -> what a deployment module takes: (1, h, w, 3) uint8, or (1, 3, h, w) float32 0..255."""
    batch = torch.from_numpy(np.ascontiguousarray(image)[None])  # (1, h, w, 3)
    return batch if input_form == "nhwc_uint8" else batch.permute(0, 3, 1, 2).to(torch.float32).contiguous()
