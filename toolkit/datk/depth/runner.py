"""The one protocol behind which teacher, student and every artifact predict."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import DepthKind, Size
from datk.depth.preprocess import bucket_image, resize_output

ImageU8 = NDArray[np.uint8]
"""(H, W, 3) RGB, 0..255."""
DepthMap = NDArray[np.float32]
"""(H, W); quantity and sign given by a DepthKind."""


@runtime_checkable
class Runner(Protocol):
    """Something that turns an 8-bit RGB bucket image into a depth map.

    `input_size` is the (height, width) it takes, `depth_kind` what it returns, `label` who computed
    (`torch-cpu`, `onnxruntime-cpu`, `litert-cpu`, `coreml-reference`, ...): reports print it next to
    every figure, so that nobody mistakes a reference evaluator for a device.
    """

    name: str
    label: str
    input_size: Size
    depth_kind: DepthKind

    def predict(self, image: ImageU8) -> DepthMap:
        """image: (h, w, 3) uint8 RGB of exactly `input_size`. Returns (h, w) float32.

        Raises DataError when the image has another size, dtype or channel count.
        """
        ...

    def close(self) -> None:
        """Free what the runtime holds. Safe to call twice."""
        ...


def check_bucket_image(image: ImageU8, input_size: Size) -> None:
    """Raise DataError unless image is (h, w, 3) uint8 of input_size. Every runner calls it first."""
    from datk.errors import DataError

    if image.dtype != np.uint8 or image.shape != (*input_size, 3):
        raise DataError(
            f"expected a uint8 RGB image of shape {(*input_size, 3)}, got {image.dtype} {image.shape}",
            hint="resize with datk.depth.preprocess.bucket_image(image, size)",
        )


def predict_photo(runner: Runner, photo: ImageU8) -> DepthMap:
    """photo: (H, W, 3) uint8 RGB of any size. Returns (H, W) float32 at the photo's own size."""
    small = runner.predict(bucket_image(photo, runner.input_size))
    return resize_output(small, (photo.shape[0], photo.shape[1]))
