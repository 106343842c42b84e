"""What a calibration set must be before NNCF sees it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from datk.depth.io_spec import Size
from datk.errors import DataError
from datk.targets.base import InputForm


def check_calibration(calibration: Sequence[NDArray[np.uint8]], input_size: Size) -> None:
    """Raise DataError unless calibration is a usable set of (h, w, 3) uint8 RGB images of input_size.

    Names the first wrong image. A set in which no image has any contrast is refused too: every
    activation range drawn from it would be a point.
    """
    if len(calibration) == 0:
        raise DataError(
            "the calibration set is empty", hint="name a folder of photographs: --calibration DIR (100 to 300 do)"
        )
    expected = (*input_size, 3)
    for number, image in enumerate(calibration):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != expected:
            kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise DataError(
                f"calibration image {number}: expected uint8 RGB of shape {expected}, got {kind}",
                hint="resize with datk.depth.preprocess.bucket_image(image, size)",
            )
    if all(int(image.min()) == int(image.max()) for image in calibration):
        raise DataError(
            f"all {len(calibration)} calibration images are one flat colour: no activation range can be learned",
            hint="calibrate on photographs like those the device will see",
        )


def choose(calibration: Sequence[NDArray[np.uint8]], *, count: int, seed: int) -> list[NDArray[np.uint8]]:
    """At most count images, drawn without repetition by seed, in drawn order."""
    order = np.random.default_rng(seed).permutation(len(calibration))[:count]
    return [calibration[int(i)] for i in order]


def input_tensor(image: NDArray[np.uint8], input_form: InputForm) -> torch.Tensor:
    """(h, w, 3) uint8 RGB -> what a deployment module takes: (1, h, w, 3) uint8, or (1, 3, h, w) float32 0..255."""
    batch = torch.from_numpy(np.ascontiguousarray(image)[None])  # (1, h, w, 3)
    return batch if input_form == "nhwc_uint8" else batch.permute(0, 3, 1, 2).to(torch.float32).contiguous()
