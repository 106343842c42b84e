"""A fixed bank of procedural texture layers, the same on every machine and in every scene.

A layer is (EDGE, EDGE, 4) uint8: red, green and blue weights and a height for fake relief. A material tints a layer by
two colours (`mix(colour_a, colour_b, red)`) or shows its own colours (posters), so that a hundred layers give
endless looks while the bank is uploaded once.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

EDGE = 128
PATTERN_NAMES = (
    "noise",
    "cloud",
    "checker",
    "brick",
    "wood",
    "stripe",
    "marble",
    "gradient",
    "tile",
    "speckle",
    "weave",
    "planks",
    "facade",
    "leafy",
    "grunge",
    "dots",
)
VARIANTS = 4
POSTERS = 32
LAYERS = len(PATTERN_NAMES) * VARIANTS + POSTERS
_BANK_SEED = 20240613

Plane = NDArray[np.float64]


def value_noise(rng: np.random.Generator, *, octaves: int, base: int, stretch: int = 1) -> Plane:
    """Tileable multi-octave value noise, (EDGE, EDGE), 0..1."""
    total = np.zeros((EDGE, EDGE))
    weight = 1.0
    for octave in range(octaves):
        rows = min(EDGE, base * 2**octave)
        columns = min(EDGE, max(2, rows // stretch))
        lattice = rng.random((rows, columns))
        total += weight * _upsample(lattice)
        weight *= 0.55
    low, high = total.min(), total.max()
    result: Plane = (total - low) / (high - low)
    return result


def _upsample(lattice: Plane) -> Plane:
    """Periodic smooth interpolation of a small lattice to (EDGE, EDGE)."""
    for axis in (0, 1):
        n = lattice.shape[axis]
        position = np.arange(EDGE) * n / EDGE
        left = position.astype(int)
        t = position - left
        t = t * t * (3 - 2 * t)
        t = t[:, None] if axis == 0 else t[None]
        lattice = lattice.take(left % n, axis) * (1 - t) + lattice.take((left + 1) % n, axis) * t
    return lattice


def _pattern(name: str, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """(weight 0..1, height 0..1) of one pattern, each (EDGE, EDGE)."""
    y, x = np.mgrid[0:EDGE, 0:EDGE] / EDGE
    fine = value_noise(rng, octaves=4, base=16)
    coarse = value_noise(rng, octaves=5, base=3)
    n = int(rng.integers(3, 9))
    if name == "noise":
        weight, height = fine, fine
    elif name == "cloud":
        weight, height = coarse, coarse
    elif name == "checker":
        weight = ((np.floor(x * n) + np.floor(y * n)) % 2 == 0) * 0.9 + 0.1 * fine
        height = fine * 0.3
    elif name in ("brick", "tile"):
        rows, columns = (2 * n, n) if name == "brick" else (n, n)
        row = np.floor(y * rows)
        u = (x * columns + (0.5 * (row % 2) if name == "brick" else 0)) % columns
        joint = ((y * rows) % 1 < 0.14) | (u % 1 < 0.08)
        tone = rng.random((64, 64))[row.astype(int) % 64, np.floor(u).astype(int) % 64]
        weight = np.where(joint, 1.0, 0.45 * tone + 0.2 * fine)
        height = np.where(joint, 0.0, 0.75 + 0.25 * fine)
    elif name == "wood":
        rings = 0.5 + 0.5 * np.sin(2 * np.pi * (n * x + 1.6 * value_noise(rng, octaves=3, base=8, stretch=4)))
        weight, height = 0.7 * rings + 0.3 * fine, 0.5 + 0.2 * rings
    elif name == "stripe":
        weight = (((x if rng.random() < 0.5 else y) * n) % 1 < rng.uniform(0.25, 0.6)) * 0.92 + 0.08 * fine
        height = 0.2 * fine
    elif name == "marble":
        weight = np.abs(np.sin(2 * np.pi * (x + y) + 7 * coarse)) ** 0.5
        height = 0.1 * coarse
    elif name == "gradient":
        weight, height = 0.85 * np.abs(2 * y - 1) + 0.15 * coarse, 0.1 * fine
    elif name == "speckle":
        weight = np.where(rng.random((EDGE, EDGE)) < 0.12, 1.0, 0.25 * fine)
        height = fine
    elif name == "weave":
        weight = (0.5 + 0.5 * np.sin(2 * np.pi * 16 * x)) * (0.5 + 0.5 * np.sin(2 * np.pi * 16 * y))
        weight = 0.7 * weight + 0.3 * fine
        height = weight
    elif name == "planks":
        plank = np.floor(x * n).astype(int)
        tone = rng.random(64)[plank % 64]
        joint = (x * n) % 1 < 0.06
        grain = value_noise(rng, octaves=3, base=32, stretch=1)[:, :1] * 0 + value_noise(rng, octaves=4, base=4)
        weight = np.where(joint, 1.0, 0.6 * tone + 0.3 * grain)
        height = np.where(joint, 0.0, 0.8 + 0.2 * fine)
    elif name == "facade":
        window = ((x * n) % 1 > 0.3) & ((x * n) % 1 < 0.78) & ((y * n) % 1 > 0.25) & ((y * n) % 1 < 0.8)
        lit = rng.random((16, 16))[np.floor(y * n).astype(int), np.floor(x * n).astype(int)]
        weight = np.where(window, 0.65 + 0.35 * lit, 0.25 * fine)
        height = np.where(window, 0.2, 0.8)
    elif name == "leafy":
        weight = value_noise(rng, octaves=3, base=24)
        weight = np.clip((weight - 0.3) * 2.2, 0, 1)
        height = weight
    elif name == "grunge":
        weight = np.clip((coarse - 0.45) * 4, 0, 1) * 0.7 + 0.3 * fine
        height = fine * 0.6
    elif name == "dots":
        weight = ((x * n % 1 - 0.5) ** 2 + (y * n % 1 - 0.5) ** 2 < 0.09) * 0.9 + 0.1 * fine
        height = 0.2 * fine
    else:
        raise AssertionError(name)
    return np.clip(weight, 0, 1), np.clip(height, 0, 1)


def _poster(rng: np.random.Generator) -> tuple[NDArray[np.float64], Plane]:
    """A made-up picture: soft background, overlapping shapes, lines like text. (EDGE, EDGE, 3) and a height."""
    y, x = np.mgrid[0:EDGE, 0:EDGE] / EDGE
    top, bottom = rng.random(3), rng.random(3)
    picture = top + (bottom - top) * y[..., None]
    for _ in range(int(rng.integers(4, 14))):
        cx, cy, size = rng.random(), rng.random(), rng.uniform(0.04, 0.35)
        kind = rng.integers(4)
        if kind == 0:
            inside = (x - cx) ** 2 + (y - cy) ** 2 < size**2
        elif kind == 1:
            inside = (np.abs(x - cx) < size) & (np.abs(y - cy) < size * rng.uniform(0.3, 1.5))
        elif kind == 2:
            a = rng.uniform(0, np.pi)
            inside = np.abs((x - cx) * np.cos(a) + (y - cy) * np.sin(a)) < size * 0.2
        else:
            inside = (y - cy > np.abs(x - cx) * rng.uniform(0.5, 2)) & (y < cy + size)
        picture = np.where(inside[..., None], 0.25 * picture + 0.75 * rng.random(3), picture)
    if rng.random() < 0.5:
        for line in range(int(rng.integers(3, 8))):
            r = 0.55 + 0.05 * line
            text = (np.abs(y - r) < 0.015) & (x > 0.12) & (x < rng.uniform(0.5, 0.9)) & (rng.random(EDGE)[None] < 0.8)
            picture = np.where(text[..., None], rng.random() * 0.2, picture)
    noise = value_noise(rng, octaves=4, base=6)
    return np.clip(picture * (0.75 + 0.5 * noise[..., None]), 0, 1), 0.1 * noise


@cache
def texture_bank() -> NDArray[np.uint8]:
    """(LAYERS, EDGE, EDGE, 4) uint8: patterns first (VARIANTS of each name), then POSTERS coloured layers."""
    bank = np.zeros((LAYERS, EDGE, EDGE, 4))
    rng = np.random.default_rng(_BANK_SEED)
    for number, name in enumerate(PATTERN_NAMES):
        for variant in range(VARIANTS):
            weight, height = _pattern(name, rng)
            bank[number * VARIANTS + variant, ..., :3] = weight[..., None]
            bank[number * VARIANTS + variant, ..., 3] = height
    for number in range(POSTERS):
        picture, height = _poster(rng)
        bank[len(PATTERN_NAMES) * VARIANTS + number, ..., :3] = picture
        bank[len(PATTERN_NAMES) * VARIANTS + number, ..., 3] = height
    return np.round(bank * 255).astype(np.uint8)


def layer_of(name: str, variant: int) -> int:
    """Index of a pattern's variant in the bank."""
    return PATTERN_NAMES.index(name) * VARIANTS + variant % VARIANTS


def poster_layer(number: int) -> int:
    """Index of a poster in the bank."""
    return len(PATTERN_NAMES) * VARIANTS + number % POSTERS
