"""Bad light and bad weather, painted on a photograph: dark, fog, snow, blur. Deterministic in the picture's pixels.

For robustness variants of a benchmark in the manner of Depth Anything AC's DA-2K dark / fog / snow / blur. The painting
is datk's own: figures compare nets with each other here, not with those published for other paintings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

ImageU8 = NDArray[np.uint8]
VERSION = 1
"""Raised when any variant would paint otherwise."""


def dark(image: ImageU8) -> ImageU8:
    """A twelfth of the light in linear light, then shot and read noise of a small sensor. (H, W, 3) -> same."""
    rng = _rng(image, "dark")
    light = (image.astype(np.float32) / 255) ** 2.2 / 12
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noisy = light + noise * np.sqrt(light * 0.004 + 0.0015**2)
    return _bytes(255 * np.clip(noisy, 0, 1) ** (1 / 2.2))


def fog(image: ImageU8) -> ImageU8:
    """A bright veil of uneven thickness, 45 to 85 %, slightly thicker towards the top. (H, W, 3) -> same."""
    height, width = image.shape[:2]
    veil = _clouds(_rng(image, "fog"), height, width)
    thickness = 0.45 + 0.3 * veil + 0.1 * np.linspace(1, 0, height, dtype=np.float32)[:, None]
    return _bytes(image * (1 - thickness[..., None]) + 225 * thickness[..., None])


def snow(image: ImageU8) -> ImageU8:
    """Falling flakes of three sizes, drawn out by the wind, under a grey sky. (H, W, 3) -> same."""
    rng = _rng(image, "snow")
    height, width = image.shape[:2]
    out = 0.8 * image.astype(np.float32) + 30
    for share, length in ((0.004, 5), (0.0012, 11), (0.0003, 21)):
        side = max(3, round(length * max(height, width) / 1000) | 1)
        flakes = (rng.random((height, width), dtype=np.float32) < share * (5 / side) ** 0.5).astype(np.float32)
        streaks = cv2.filter2D(flakes, -1, _streak(side, 60.0) * side, borderType=cv2.BORDER_REFLECT)
        cover = np.clip(cv2.GaussianBlur(streaks, (0, 0), side / 5), 0, 1)[..., None]
        out = out * (1 - 0.9 * cover) + 250 * 0.9 * cover
    return _bytes(out)


def blur(image: ImageU8) -> ImageU8:
    """Camera shake over 2 % of the long side in a direction of its own, then slight defocus. (H, W, 3) -> same."""
    rng = _rng(image, "blur")
    side = max(3, round(0.02 * max(image.shape[:2])) | 1)
    kernel = _streak(side, float(rng.uniform(0, 180)))
    shaken = cv2.filter2D(image.astype(np.float32), -1, kernel, borderType=cv2.BORDER_REFLECT)
    return _bytes(cv2.GaussianBlur(shaken, (0, 0), side / 8))


VARIANTS: dict[str, Callable[[ImageU8], ImageU8]] = {"dark": dark, "fog": fog, "snow": snow, "blur": blur}


def _rng(image: ImageU8, what: str) -> np.random.Generator:
    digest = hashlib.sha256(what.encode() + str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))


def _clouds(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """(H, W) smooth field in 0..1: three octaves of noise, enlarged."""
    total = np.zeros((height, width), np.float32)
    for cells, weight in ((3, 0.5), (6, 0.3), (12, 0.2)):
        grid = rng.random((cells, cells), dtype=np.float32)
        total += weight * np.clip(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
    return total


def _streak(side: int, degrees: float) -> NDArray[np.float32]:
    """(side, side) kernel of a line through the middle, summing to 1."""
    line = np.zeros((side, side), np.float32)
    line[side // 2] = 1
    turn = cv2.getRotationMatrix2D((side // 2, side // 2), degrees, 1.0)
    turned = cv2.warpAffine(line, turn, (side, side))
    return np.asarray(turned / turned.sum(), np.float32)


def _bytes(values: NDArray[np.floating]) -> ImageU8:
    return np.asarray(np.clip(np.round(values), 0, 255), np.uint8)
