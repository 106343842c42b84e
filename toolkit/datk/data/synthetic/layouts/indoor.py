"""Rooms seen from within."""

from __future__ import annotations

import numpy as np

from datk.data.synthetic import mesh as m
from datk.data.synthetic.families import FAMILIES
from datk.data.synthetic.layouts.draft import Draft
from datk.data.synthetic.layouts.light import lamplight
from datk.data.synthetic.layouts.surroundings import room
from datk.data.synthetic.materials import random_material
from datk.data.synthetic.objects import Part
from datk.data.synthetic.scene import Instance


def against_walls(d: Draft, width: float, depth: float, count: int) -> None:
    """Tall furniture along the walls of a room about the origin, its back (+y) to the wall."""
    for _ in range(count):
        family = str(
            d.rng.choice(["shelf", "cabinet", "cabinet", "sofa", "bed", "table", "ladder", "floor_lamp", "leafy_plant"])
        )
        parts = FAMILIES[family].build(d.rng)
        turn = int(d.rng.integers(4))
        length, away = (width, depth / 2) if turn % 2 == 0 else (depth, width / 2)
        reach = max(float(p.mesh.triangles[..., 1].max()) for p in parts)
        along = d.rng.uniform(-0.42, 0.42) * length
        x, y = along, away - reach - 0.03
        c, s = np.cos(turn * np.pi / 2), np.sin(turn * np.pi / 2)
        d.put(family, (c * x - s * y, s * x + c * y, 0.0), yaw=turn * np.pi / 2, parts=parts)


def dress(d: Draft, support: Instance, count: int) -> None:
    """Small things on top of a table-like object."""
    low, high = support.bounds()
    for _ in range(count):
        x, y = (d.rng.uniform(low[i] + 0.1, max(low[i] + 0.11, high[i] - 0.1)) for i in (0, 1))
        d.put(d.pick("hand"), (x, y, float(high[2])), scale=float(d.rng.uniform(0.5, 0.95)))


def living_room(d: Draft) -> None:
    """A furnished room seen from eye level, a chair or a corner near the ceiling."""
    rng = d.rng
    w, e, h = rng.uniform(3, 8), rng.uniform(3, 8), rng.uniform(2.3, 3.4)
    room(d, w, e, h)
    lamplight(d, centre=(0, 0, 0), spread=min(w, e) * 0.3, height=h)
    against_walls(d, w, e, int(rng.integers(5, 13)))
    for _ in range(int(rng.integers(3, 10))):
        at = (rng.uniform(-0.38, 0.38) * w, rng.uniform(-0.38, 0.38) * e, 0.0)
        family = d.pick("floor")
        placed = d.put(family, at)
        if family == "table":
            dress(d, placed, int(rng.integers(1, 6)))
            for _ in range(int(rng.integers(0, 4))):
                a = rng.uniform(0, 2 * np.pi)
                d.put("chair", (at[0] + np.cos(a), at[1] + 0.8 * np.sin(a), 0.0), yaw=a - np.pi / 2)
    for _ in range(int(rng.integers(0, 3))):
        d.put("hanging_lamp", (rng.uniform(-0.3, 0.3) * w, rng.uniform(-0.3, 0.3) * e, h))
    a = rng.uniform(0, 2 * np.pi)
    z = float(rng.choice([rng.uniform(1.2, 1.7), rng.uniform(0.4, 1.2), h - 0.3]))
    eye = [0.44 * w * np.cos(a), 0.44 * e * np.sin(a), z]
    d.look(eye, [rng.normal(0, 0.15) * w, rng.normal(0, 0.15) * e, rng.uniform(0.3, 1.5)])


def corridor(d: Draft) -> None:
    """A long passage with doors, pillars, lamps along the ceiling and things along its sides."""
    rng = d.rng
    w, length, h = rng.uniform(1.4, 4), rng.uniform(10, 40), rng.uniform(2.2, 3.6)
    room(d, w, length, h, windows=rng.random() < 0.3)
    lamplight(d, centre=(0, -length / 2 + rng.uniform(2, 6), 0), spread=w * 0.3, height=h)
    for y in np.arange(-length / 2 + 1, length / 2, rng.uniform(1.5, 4)):
        for s in (-1, 1):
            if rng.random() < 0.5:
                door = m.box(0.06, 0.9, 2.05, (s * w / 2, float(y), 1.02))
                d.fix("door", Part(door, random_material(rng, "wood")))
            elif rng.random() < 0.3:
                d.fix(
                    "pillar",
                    Part(m.box(0.25, 0.25, h, (s * (w / 2 - 0.1), float(y), h / 2)), random_material(rng, "stone")),
                )
        if rng.random() < 0.5:
            d.put("hanging_lamp", (rng.normal(0, 0.2), float(y), h), scale=0.7)
    for _ in range(int(rng.integers(3, 10))):
        side = rng.choice([-1, 1]) * (w / 2 - 0.35)
        d.put(d.pick("floor", "hand"), (side, rng.uniform(-0.45, 0.45) * length, 0.0))
    eye = [rng.normal(0, 0.15) * w, -length / 2 + rng.uniform(0.4, 2), rng.uniform(0.5, h - 0.5)]
    d.look(eye, [rng.normal(0, 0.3) * w, rng.uniform(-0.1, 0.4) * length, rng.uniform(0.6, h - 0.6)])


def workshop(d: Draft) -> None:
    """A garage: a vehicle, wheels, ladders, shelves and tools, wires and grilles."""
    rng = d.rng
    w, e, h = rng.uniform(4, 7), rng.uniform(4, 7), rng.uniform(2.4, 3.2)
    room(d, w, e, h, windows=rng.random() < 0.4)
    lamplight(d, centre=(0, 0, 0), spread=1.5, height=h)
    for _ in range(int(rng.integers(1, 4))):
        d.put(
            str(rng.choice(["motorcycle", "bicycle", "wheel", "motorcycle"])),
            (rng.normal(0, 0.6), rng.normal(0, 0.7), 0.0),
        )
    for _ in range(int(rng.integers(4, 12))):
        family = str(
            rng.choice(
                [
                    "shelf",
                    "ladder",
                    "grille",
                    "perforated_plate",
                    "wheel",
                    "cabinet",
                    "chair",
                    "gadget",
                    "box",
                    "can",
                    "blob",
                ]
            )
        )
        d.put(
            family, (rng.uniform(-0.42, 0.42) * w, rng.uniform(0.0, 0.42) * e, 0.0), scale=float(rng.uniform(0.8, 1.5))
        )
    against_walls(d, w, e, 5)
    for _ in range(int(rng.integers(0, 4))):
        d.put("hanging_lamp", (rng.normal(0, 1), rng.uniform(-1.5, 1), h))
    eye = [rng.normal(0, 0.5), -e * 0.45, rng.uniform(0.5, 1.7)]
    d.look(eye, [rng.normal(0, 0.3), 0.3, rng.uniform(0.4, 1.0)], fov=(35, 65))


def shelves(d: Draft) -> None:
    """Close in front of filled shelves or a wall of cabinets, seen straight or along them."""
    rng = d.rng
    room(d, 7, rng.uniform(3, 6), 2.8, windows=False)
    e = 1.5
    lamplight(d, centre=(0, 0, 0), spread=1.0, height=2.7)
    x = -3.0
    while x < 3.0:
        step = rng.uniform(0.7, 1.6)
        d.put(
            str(rng.choice(["shelf", "shelf", "shelf", "cabinet"])),
            (x + step / 2, e - 0.25, 0.0),
            yaw=rng.normal(0, 0.04),
        )
        x += step
    for _ in range(int(rng.integers(0, 5))):
        d.put(d.pick("floor", "hand"), (rng.normal(0, 1.2), rng.uniform(0.0, 1.0), 0.0))
    side = rng.uniform(-1.2, 1.2)
    r = rng.uniform(1.0, 2.2)
    eye = [r * np.sin(side), e - 0.3 - r * np.cos(side), rng.uniform(0.5, 2.3)]
    d.look(eye, [rng.normal(0, 0.3), e - 0.2, rng.uniform(0.5, 1.6)], fov=(40, 70))
