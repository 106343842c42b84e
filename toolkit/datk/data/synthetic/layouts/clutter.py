"""Heaps and strewn things of every family, brought to a wanted size and laid down any way round."""

from __future__ import annotations

import numpy as np

from datk.data.synthetic import mesh as m
from datk.data.synthetic.families import FAMILIES, tagged
from datk.data.synthetic.layouts.draft import Draft
from datk.data.synthetic.scene import Array, Instance

CLUTTER = tuple(name for name in FAMILIES if name not in {"cables", "lamp_post", "building"})
"""Families that lie about as things or as models of things; the left out ones are all thin length or mere boxes."""

_HAND = tagged("hand")
_CELLS = 16


def clutter_family(d: Draft) -> str:
    """A thing for the hand in half of the cases, else any family of CLUTTER."""
    return str(d.rng.choice(_HAND if d.rng.random() < 0.5 else CLUTTER))


def rest(d: Draft, family: str, at: tuple[float, float, float], *, extent_m: float, lying: float = 0.5) -> Instance:
    """Lay a thing down: its box centred on at[:2], its lowest point at at[2], its longest side extent_m.

    lying: chance that it lies any way round; else it stands upright.
    """
    parts = FAMILIES[family].build(d.rng)
    tilt = m.random_rotation(d.rng) if d.rng.random() < lying else m.rotation("z", d.rng.uniform(0, 2 * np.pi))
    low, high = Instance(family, parts, tilt).bounds()
    scale = extent_m / float(np.max(high - low))
    centre = (low + high) / 2 * scale
    place = (at[0] - centre[0], at[1] - centre[1], at[2] - low[2] * scale)
    return d.put(family, place, yaw=0.0, scale=scale, tilt=tilt, parts=parts)


def strew(
    d: Draft,
    centre: Array | tuple[float, float, float],
    size: tuple[float, float],
    count: int,
    extent: tuple[float, float],
) -> None:
    """Things side by side on a plane of (width, depth) about `centre`, with longest sides in `extent`."""
    for _ in range(count):
        x, y = (centre[i] + d.rng.uniform(-0.5, 0.5) * size[i] for i in (0, 1))
        rest(d, clutter_family(d), (x, y, float(centre[2])), extent_m=float(d.rng.uniform(*extent)))


def heap(
    d: Draft, centre: Array | tuple[float, float, float], size: tuple[float, float], count: int, *, level_m: float
) -> None:
    """Things on top of each other in a box of (width, depth) whose floor is at `centre`; no thing starts above level_m.

    The height of the heap is kept on a coarse grid; a thing sinks in by a quarter of what lies below it.
    """
    rng = d.rng
    w, e = size
    heights = np.zeros((_CELLS, _CELLS))
    for _ in range(count):
        family = clutter_family(d)
        parts = FAMILIES[family].build(rng)
        tilt = m.random_rotation(rng) if rng.random() < 0.75 else np.eye(4)
        low, high = Instance(family, parts, tilt).bounds()
        widest = float(np.max(high[:2] - low[:2]))
        scale = rng.uniform(0.25, 0.75) * min(w, e) / widest
        if family in _HAND:
            scale = min(float(rng.uniform(0.6, 1.3)), scale)
        half = (high - low)[:2] / 2 * scale
        x, y = (rng.uniform(-1, 1) * max(0.0, s / 2 - q - 0.01) for s, q in ((w, half[0]), (e, half[1])))
        r0, r1 = (int(np.clip(((y + s * half[1] * 0.7) / e + 0.5) * _CELLS, 0, _CELLS - 1)) for s in (-1, 1))
        c0, c1 = (int(np.clip(((x + s * half[0] * 0.7) / w + 0.5) * _CELLS, 0, _CELLS - 1)) for s in (-1, 1))
        patch = heights[r0 : r1 + 1, c0 : c1 + 1]
        base = 0.75 * float(patch.max())
        if base > level_m:
            continue
        middle = (low + high) / 2 * scale
        at = (centre[0] + x - middle[0], centre[1] + y - middle[1], centre[2] + base - low[2] * scale)
        d.put(family, at, yaw=0.0, scale=scale, tilt=tilt, parts=parts)
        patch[:] = base + float(high[2] - low[2]) * scale * 0.8
