"""What stands around the things: rooms with windows and doors, open ground, a wall behind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from datk.data.synthetic import mesh as m
from datk.data.synthetic.families import FAMILIES
from datk.data.synthetic.layouts.draft import Draft
from datk.data.synthetic.materials import glass, random_material
from datk.data.synthetic.objects import Part
from datk.data.synthetic.scene import Array, Instance


def room(d: Draft, width: float, depth: float, height: float, *, windows: bool = True) -> None:
    """Floor, ceiling and four walls about the origin; windows with or without panes, a door, pictures, a mirror."""
    rng = d.rng
    w, e = width / 2, depth / 2
    floor = m.quad(np.array([[-w, -e, 0], [w, -e, 0], [w, e, 0], [-w, e, 0]]))
    d.fix("floor", Part(floor, random_material(rng, "floor")))
    ceiling = floor.transformed(m.translation(0, 0, height))
    d.fix("ceiling", Part(ceiling, random_material(rng, "wall")))
    paint = random_material(rng, "wall")
    outside = False
    for turn, length, away in ((0, width, e), (1, depth, w), (2, width, e), (3, depth, w)):
        place = m.rotation("z", turn * np.pi / 2) @ m.translation(0, away, 0)
        material = paint if rng.random() < 0.7 else random_material(rng, "wall")
        holes = []
        if windows and rng.random() < 0.4 and length > 2:
            a = rng.uniform(-length / 2 + 0.3, length / 2 - 1.5)
            holes.append((a, a + rng.uniform(0.8, 1.2), rng.uniform(0.6, 1.0), height * rng.uniform(0.75, 0.9)))
        parts = [Part(_wall_with_holes(length, height, holes).transformed(place), material)]
        for low, high, sill, top in holes:
            outside = True
            bars = m.boxes(
                np.array(
                    [
                        [(low + high) / 2, 0, sill],
                        [(low + high) / 2, 0, top],
                        [low, 0, (sill + top) / 2],
                        [high, 0, (sill + top) / 2],
                        [(low + high) / 2, 0, (sill + top) / 2],
                    ]
                ),
                np.array(
                    [
                        [high - low, 0.1, 0.06],
                        [high - low, 0.1, 0.06],
                        [0.06, 0.1, top - sill],
                        [0.06, 0.1, top - sill],
                        [0.035, 0.05, top - sill],
                    ]
                ),
            )
            parts.append(Part(bars.transformed(place), random_material(rng, "wood")))
            if rng.random() < 0.75:
                pane = m.quad(np.array([[low, 0.01, sill], [high, 0.01, sill], [high, 0.01, top], [low, 0.01, top]]))
                parts.append(Part(pane.transformed(place), glass(rng)))
        if rng.random() < 0.6:
            skirting = m.box(length, 0.03, rng.uniform(0.06, 0.14), (0, -0.01, 0.05))
            parts.append(Part(skirting.transformed(place), random_material(rng, "wood")))
        d.fix("wall", *parts)
        if not holes:
            for _ in range(int(rng.integers(0, 4))):
                family = "wall_mirror" if rng.random() < 0.15 else "picture"
                x = rng.uniform(-0.42, 0.42) * length
                instance = Instance(
                    family, FAMILIES[family].build(rng), place @ m.translation(x, 0, height * rng.uniform(0.5, 0.65))
                )
                d.instances.append(instance)
            if rng.random() < 0.3:
                x = rng.uniform(-0.35, 0.35) * length
                door = m.boxes(np.array([[x, -0.02, 1.02]]), np.array([[0.85, 0.04, 2.04]]))
                d.fix("door", Part(door.transformed(place), random_material(rng, "wood")))
    if outside:
        daylight_like = rng.random() < 0.5
        for _ in range(3):
            angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(12, 25)
            d.put("building" if daylight_like else "tree", (far * np.cos(angle), far * np.sin(angle), -1.0))


def _wall_with_holes(length: float, height: float, holes: list[tuple[float, float, float, float]]) -> m.Mesh:
    """A wall in the plane y = 0 from the ground up, with at most one rectangular (low, high, sill, top) hole."""
    half = length / 2
    rectangles = [(-half, half, 0.0, height)]
    for low, high, sill, top in holes:
        rectangles = [(-half, low, 0, height), (high, half, 0, height), (low, high, 0, sill), (low, high, top, height)]
    return m.quad(np.array([[[a, 0, c], [b, 0, c], [b, 0, t], [a, 0, t]] for a, b, c, t in rectangles]))


def ground(
    d: Draft, *, hills: float, kind: str | None = None, extent_m: float = 140.0
) -> Callable[[float, float], float]:
    """A height field about the origin, finer near it; returns its height function."""
    rng = d.rng
    waves = [(rng.normal(0, 0.05, 2), rng.uniform(0, 6), rng.uniform(0.3, 1)) for _ in range(5)]
    small = [(rng.normal(0, 0.5, 2), rng.uniform(0, 6), 0.04) for _ in range(3)]
    rise = rng.uniform(0, 0.25) if rng.random() < 0.5 else 0.0

    def height(x: Array, y: Array) -> Array:
        z = np.zeros_like(x)
        for k, phase, amount in waves:
            z = z + hills * amount * (np.sin(k[0] * x + k[1] * y + phase) - np.sin(phase))
        for k, phase, amount in small:
            z = z + min(hills, 1.0) * amount * np.sin(k[0] * x + k[1] * y + phase)
        distance = np.hypot(x, y)
        z = z + hills * rise * np.maximum(distance - 25, 0)
        return np.asarray(z, dtype=np.float64)

    u = np.linspace(-1, 1, 53)
    axis = np.sign(u) * (0.12 * np.abs(u) + 0.88 * np.abs(u) ** 2.6) * extent_m
    x, y = np.meshgrid(axis, axis)
    points = np.stack([x, y, height(x, y)], axis=-1)
    material = random_material(rng, kind or str(rng.choice(["grass", "soil", "grass", "stone", "asphalt"])))
    d.fix("ground", Part(m.grid(points), material))
    return lambda px, py: float(height(np.array(px), np.array(py)))


def backdrop(d: Draft, *, distance: float) -> None:
    """A wall behind the origin (along +y), often met at an angle, and a floor; sometimes a corner."""
    rng = d.rng
    tilt = rng.normal(0, 0.35)
    span = 14.0
    wall = m.quad(np.array([[-span, 0, -3], [span, 0, -3], [span, 0, 9], [-span, 0, 9]]))
    place = m.translation(0, distance, 0) @ m.rotation("z", tilt)
    kind = str(rng.choice(["wall", "wall", "cloth", "picture", "stone", "wood", "grass"]))
    d.fix("wall", Part(wall.transformed(place), random_material(rng, kind)))
    if rng.random() < 0.3:
        side = m.translation(rng.choice([-1, 1]) * rng.uniform(1, 4), 0, 0) @ m.rotation(
            "z", np.pi / 2 + rng.normal(0, 0.3)
        )
        d.fix("wall", Part(wall.transformed(side), random_material(rng, "wall")))
    if rng.random() < 0.85:
        floor = m.quad(np.array([[-span, -span, 0], [span, -span, 0], [span, span, 0], [-span, span, 0]]))
        d.fix("floor", Part(floor, random_material(rng, str(rng.choice(["floor", "wood", "cloth", "soil", "grass"])))))
