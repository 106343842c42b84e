"""Photograph, truth, prediction and error of one image of a dense benchmark, as small pictures of a record."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import DepthKind
from datk.depth.runner import ImageU8
from datk.evaluate.benchmarks.dense_error import DenseError
from datk.report.colour import colourise, colourise_error
from datk.report.judged_file import ErrorPictures, RecordPicture

SIDE = 288
QUALITY = 82
SCALES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Relative errors painted brightest; the smallest that holds 95 % of the pixels of an image's maps is taken."""


def error_pictures(image: str, text: str, photo: ImageU8, errors: Sequence[tuple[str, DenseError]]) -> ErrorPictures:
    """photo (H, W, 3); errors: (model, its error) of that photograph, all painted with one scale."""
    values = np.concatenate([e.relative[np.isfinite(e.relative)] for _, e in errors])
    high = float(np.quantile(values, 0.95))
    full = next((scale for scale in SCALES if high <= scale), SCALES[-1])
    pictures = [_picture("photograph", photo), _picture("truth", _depth(errors[0][1].truth))]
    for name, error in errors:
        mean = float(np.nanmean(error.relative))
        pictures.append(_picture(name, _depth(error.depth)))
        pictures.append(
            _picture(
                f"{name}: error, mean {100 * mean:.1f} %", colourise_error(_thick(error.relative), full_scale=full)
            )
        )
    return ErrorPictures(image=image, text=text, full_scale=full, pictures=tuple(pictures))


def _depth(depth: NDArray[np.float64]) -> ImageU8:
    """Coloured by its logarithm, near red: metres of one scene often span a factor of a hundred."""
    return colourise(np.log(_thick(depth)), DepthKind.DEPTH_METRIC_M)


def _thick(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W) at the size shown. A block with any known pixel shows the greatest: a laser's sparse dots stay visible."""
    factor = max(1, -(-max(values.shape) // SIDE))
    height, width = (side // factor * factor for side in values.shape)
    blocks = values[:height, :width].reshape(height // factor, factor, width // factor, factor)
    known = np.where(np.isnan(blocks), -np.inf, blocks).max(axis=(1, 3))
    return np.where(np.isneginf(known), np.nan, known)


def _picture(caption: str, image: ImageU8) -> RecordPicture:
    scale = min(1.0, SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return RecordPicture(caption=caption, jpeg=base64.b64encode(data.tobytes()).decode())
