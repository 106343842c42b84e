"""Candidate points of a photograph without SAM: one inside every superpixel, away from its border."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from datk.depth.runner import ImageU8

Points = NDArray[np.int32]
"""(N, 2) rows and columns in pixels of the original image, distinct."""


class KeyPoints(Protocol):
    """Finds candidate points. `key` names method and settings: points found under one key can be taken again."""

    key: str

    def find(self, photo: ImageU8) -> Points:
        """photo: (H, W, 3) uint8 RGB. Returns at least two points where the picture has room for two."""
        ...


class SuperpixelPoints:
    """Watershed superpixels of the picture at `short_side`; the innermost pixel of each is a key point.

    Like SAM's prompts the points lie inside things and not on their borders. Seeds: the calmest pixel of each cell
    of a grid; flooding: OpenCV's watershed (Meyer 1992). Deterministic.
    """

    def __init__(self, *, short_side: int = 512, cell: int = 32) -> None:
        self._short_side, self._cell = short_side, cell
        self.key = f"superpixels-{short_side}-{cell}"

    def find(self, photo: ImageU8) -> Points:
        """(H, W, 3) uint8 RGB -> (N, 2), about one point per cell x cell pixels of the small picture."""
        scale = min(1.0, self._short_side / min(photo.shape[:2]))
        small = photo if scale == 1 else cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        smooth = cv2.medianBlur(np.ascontiguousarray(small), 5)
        labels = cv2.watershed(smooth, _seeds(smooth, self._cell))  # (h, w), -1 on borders
        points = _innermost(labels)
        size = np.array(photo.shape[:2])
        full = ((points + 0.5) * size / np.array(small.shape[:2])).astype(np.int32)
        return np.unique(np.minimum(full, size - 1), axis=0).astype(np.int32)


def _seeds(rgb: NDArray[np.uint8], cell: int) -> NDArray[np.int32]:
    """(h, w) 0 where unknown, 1..n at the pixel of least gradient in the middle half of each grid cell."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    gradient = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    h, w = grey.shape
    rows, columns = _cells(h, cell), _cells(w, cell)
    seeds = np.zeros((h, w), np.int32)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            inside = gradient[top:bottom, left:right]
            r, c = np.unravel_index(int(inside.argmin()), inside.shape)
            seeds[top + r, left + c] = 1 + i * len(columns) + j
    return seeds


def _cells(length: int, cell: int) -> list[tuple[int, int]]:
    """Middle halves of equal cells of about `cell` pixels along one side."""
    edges = np.linspace(0, length, max(2, round(length / cell)) + 1)
    quarter = (edges[1] - edges[0]) / 4
    return [(int(a + quarter), max(int(a + quarter) + 1, int(b - quarter))) for a, b in pairwise(edges)]


def _innermost(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """(n, 2) for each label > 0 its pixel farthest from any border, the picture's edge included."""
    free = (labels > 0).astype(np.uint8)
    free[[0, -1]], free[:, [0, -1]] = 0, 0
    distance = cv2.distanceTransform(free, cv2.DIST_L2, 5)
    flat = labels.ravel()
    order = np.lexsort((distance.ravel(), flat))  # by label, then by distance
    last = np.flatnonzero(np.r_[np.diff(flat[order]) != 0, True])
    chosen = order[last][flat[order[last]] > 0]
    chosen = chosen[distance.ravel()[chosen] > 0]
    return np.stack(np.unravel_index(chosen, labels.shape), axis=1)
