"""Drawing point pairs from a map of known inverse depth, seeded."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from datk.errors import DataError
from datk.evaluate.benchmarks.pairs import Point, PointPair

_CHUNK = 20_000
_MAX_CHUNKS = 50


def draw_pairs(
    inverse_depth: NDArray[np.floating],
    valid: NDArray[np.bool_],
    *,
    count: int,
    seed: int,
    min_ratio: float,
    max_row_difference: int | None = None,
    balanced: bool = False,
) -> tuple[PointPair, ...]:
    """Draw `count` pairs of valid pixels whose inverse depths differ by a factor of at least min_ratio.

    inverse_depth: (H, W), larger is nearer, >= 0 (0 = sky: its ratio to anything nearer is infinite).  valid: (H, W).
    max_row_difference: if given, rows differ by 1..max_row_difference pixels, never 0.  balanced: exactly half of the
    pairs have the nearer point lower in the image, so that "lower is nearer" scores 50 %.
    Raises DataError when the map does not hold that many such pairs.
    """
    rng = np.random.default_rng(seed)
    quota = {True: count // 2, False: count - count // 2} if balanced else None
    found: list[PointPair] = []
    pixels = np.argwhere(valid)  # (N, 2)
    for _ in range(_MAX_CHUNKS if len(pixels) > 1 else 0):
        first = pixels[rng.integers(0, len(pixels), _CHUNK)]
        second = _partners(pixels, first, inverse_depth.shape, rng, max_row_difference)
        for near, far in _ordered(first, second, inverse_depth, valid, min_ratio):
            if quota is not None:
                lower = near[0] > far[0]
                if near[0] == far[0] or quota[lower] == 0:
                    continue
                quota[lower] -= 1
            found.append(PointPair(near, far))
            if len(found) == count:
                return tuple(found)
    raise DataError(f"only {len(found)} of {count} pairs with a depth ratio of {min_ratio} or more could be drawn")


def calm(inverse_depth: NDArray[np.floating], valid: NDArray[np.bool_], *, spread: float = 0.05) -> NDArray[np.bool_]:
    """(H, W) pixels whose 5x5 neighbourhood is all valid and varies by at most `spread`: no depth edge in reach."""
    kernel = np.ones((5, 5), np.uint8)
    values = inverse_depth.astype(np.float32)
    high, low = cv2.dilate(values, kernel), cv2.erode(values, kernel)
    whole = cv2.erode(valid.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray((whole > 0) & (high <= (1 + spread) * low))


def _partners(
    pixels: NDArray[np.intp],
    first: NDArray[np.intp],
    shape: tuple[int, ...],
    rng: np.random.Generator,
    max_row_difference: int | None,
) -> NDArray[np.intp]:
    if max_row_difference is None:
        return pixels[rng.integers(0, len(pixels), len(first))]
    step = rng.integers(1, max_row_difference + 1, len(first)) * rng.choice([-1, 1], len(first))
    return np.stack([first[:, 0] + step, rng.integers(0, shape[1], len(first))], axis=1)


def _ordered(
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    inverse_depth: NDArray[np.floating],
    valid: NDArray[np.bool_],
    min_ratio: float,
) -> list[tuple[Point, Point]]:
    """(nearer, farther) of each candidate that lies inside, is valid and differs enough."""
    inside = (second[:, 0] >= 0) & (second[:, 0] < valid.shape[0])
    a, b = first[inside], second[inside]
    usable = valid[b[:, 0], b[:, 1]]
    a, b = a[usable], b[usable]
    va, vb = inverse_depth[a[:, 0], a[:, 1]], inverse_depth[b[:, 0], b[:, 1]]
    clear = (np.maximum(va, vb) >= min_ratio * np.minimum(va, vb)) & (va != vb)
    swap = vb > va
    near, far = np.where(swap[:, None], b, a)[clear], np.where(swap[:, None], a, b)[clear]
    return [((int(n[0]), int(n[1])), (int(f[0]), int(f[1]))) for n, f in zip(near, far, strict=True)]
