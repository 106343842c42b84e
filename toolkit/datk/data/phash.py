"""Perceptual hash of a photograph: near-duplicates, resized and recompressed copies lie a few bits apart.

The DCT hash: grey, 32x32, the 8x8 lowest frequencies, one bit each for lying above their median
(Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.2.1). Bits in row-major
order, the first the most significant, as the imagehash library prints them. Crops and rotations are not recognised.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE, LOW = 32, 8
BITS = LOW * LOW


def perceptual_hash(photo: NDArray[np.uint8]) -> int:
    """64-bit hash of a (H, W, 3) uint8 RGB photograph."""
    return _hash_of(_frequencies(photo))


def perceptual_hash_pair(photo: NDArray[np.uint8]) -> tuple[int, int]:
    """Hashes of the photograph and of its mirror image: mirroring changes the sign of every odd column."""
    low = _frequencies(photo)
    return _hash_of(low), _hash_of(low * np.where(np.arange(LOW) % 2, -1.0, 1.0))


def distances(one: int, others: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Number of differing bits, 0..64, between one hash and each of the others."""
    return np.asarray(np.bitwise_count(others ^ np.uint64(one)), np.uint8)


def _frequencies(photo: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(8, 8) lowest DCT-II coefficients, rows vertical."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    low = np.array(cv2.dct(small.astype(np.float64))[:LOW, :LOW])
    low[0] *= np.sqrt(2)  # OpenCV's transform is orthonormal, the definition is not: its constant terms are larger
    low[:, 0] *= np.sqrt(2)
    return low


def _hash_of(low: NDArray[np.float64]) -> int:
    bits = (low > np.median(low)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
