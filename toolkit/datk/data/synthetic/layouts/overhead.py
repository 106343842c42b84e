"""Views down at things, from oblique to straight: what a robot's camera above a bin, a table or a floor sees.

The rim of a bin is nearer than its floor and lies all around; any side of the picture may be the near one.
"""

from __future__ import annotations

import numpy as np

from datk.data.synthetic import mesh as m
from datk.data.synthetic.layouts.clutter import clutter_family, rest, strew
from datk.data.synthetic.layouts.draft import Draft
from datk.data.synthetic.layouts.indoor import against_walls
from datk.data.synthetic.layouts.light import daylight, lamplight
from datk.data.synthetic.layouts.surroundings import ground, room
from datk.data.synthetic.materials import random_material
from datk.data.synthetic.objects import Part
from datk.data.synthetic.scene import Array


def look_down(
    d: Draft,
    target: Array | list[float],
    radius: float,
    *,
    pitch_deg: tuple[float, float],
    fill: tuple[float, float],
    fov: tuple[float, float] = (35, 70),
    azimuth: tuple[float, float] = (0, 2 * np.pi),
    lowest_m: float = 0.0,
) -> Array:
    """Set a camera that looks down at `target`; returns its position, at least at height lowest_m.

    pitch_deg: angle below the horizon.  fill: distance in units of that at which a ball of `radius` fills the picture's
    height.  Half of the pictures are level, the others turned by any angle.
    """
    rng = d.rng
    pitch, a, view = np.radians(rng.uniform(*pitch_deg)), rng.uniform(*azimuth), rng.uniform(*fov)
    r = max(0.3, radius / np.tan(np.radians(view / 2)) * rng.uniform(*fill))
    goal = np.asarray(target, dtype=np.float64)
    eye: Array = goal + r * np.array([np.cos(pitch) * np.cos(a), np.cos(pitch) * np.sin(a), np.sin(pitch)])
    eye[2] = max(eye[2], lowest_m)
    d.look(eye, goal, fov=(view, view), roll=0.1 if rng.random() < 0.5 else 3.0)
    return eye


def workplace(d: Draft, eye: Array, focus: tuple[float, float, float]) -> None:
    """A lit room or hall around a view down, high enough for the camera."""
    rng = d.rng
    reach = 2 * float(np.max(np.abs(eye[:2]))) + 1.0
    w, e = (max(reach, rng.uniform(3, 7)) for _ in range(2))
    height = max(float(eye[2]) + 0.5, rng.uniform(2.6, 4))
    room(d, w, e, height, windows=False)
    if rng.random() < 0.5:
        against_walls(d, w, e, int(rng.integers(1, 5)))
    lamplight(d, centre=focus, spread=0.8, height=min(2.2, height - focus[2]))


def stand(d: Draft, w: float, e: float, tallest_m: float) -> float:
    """Sometimes a block or a table to put a thing of (w, e) on; the height of its top."""
    rng = d.rng
    top = rng.uniform(0.2, tallest_m)
    if rng.random() < 0.35:
        return 0.0
    a, b = w * rng.uniform(1, 1.8), e * rng.uniform(1, 1.8)
    if rng.random() < 0.5:
        d.fix("stand", Part(m.box(a, b, top, (0, 0, top / 2)), random_material(rng, "any")))
    else:
        board = m.box(a, b, 0.03, (0, 0, top - 0.015))
        legs = np.array([[s * a * 0.46, q * b * 0.46, top / 2 - 0.015] for s in (-1, 1) for q in (-1, 1)])
        parts = m.merge([board, m.boxes(legs, np.array([[0.06, 0.06, top - 0.03]]))])
        d.fix("stand", Part(parts, random_material(rng, str(rng.choice(["wood", "metal", "plastic", "stone"])))))
    return float(top)


def tabletop(d: Draft) -> None:
    """Things on a table seen obliquely or from above, the room behind."""
    rng = d.rng
    room(d, rng.uniform(4, 6), rng.uniform(4, 6), 2.7, windows=rng.random() < 0.5)
    lamplight(d, centre=(0, 0, 0.7), spread=1.2, height=1.9)
    w, e = rng.uniform(0.8, 1.8), rng.uniform(0.6, 1.2)
    _table(d, w, e)
    for _ in range(int(rng.integers(4, 16))):
        at = (rng.uniform(-0.45, 0.45) * w, rng.uniform(-0.45, 0.45) * e, 0.735)
        d.put(d.pick("hand"), at, scale=float(rng.uniform(0.4, 1.0)))
    for _ in range(int(rng.integers(0, 4))):
        a = rng.uniform(0, 2 * np.pi)
        d.put("chair", (0.75 * w * np.cos(a), 0.95 * e * np.sin(a), 0.0), yaw=a - np.pi / 2)
    against_walls(d, 4.0, 4.0, 3)
    pitch, a, r = rng.uniform(0.15, 1.5), rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 1.4)
    eye = [r * np.cos(pitch) * np.cos(a), r * np.cos(pitch) * np.sin(a), min(0.78 + r * np.sin(pitch), 2.6)]
    d.clearance_m = 0.2
    d.look(eye, [rng.normal(0, 0.1), rng.normal(0, 0.1), 0.78], roll=0.15)


def _table(d: Draft, w: float, e: float) -> None:
    """A table about the origin whose top is at 0.735 m."""
    top = m.box(w, e, 0.03, (0, 0, 0.72))
    legs = m.boxes(
        np.array([[a * w * 0.46, b * e * 0.45, 0.35] for a in (-1, 1) for b in (-1, 1)]), np.array([[0.06, 0.06, 0.7]])
    )
    board = random_material(d.rng, str(d.rng.choice(["wood", "cloth", "stone", "plastic"])))
    d.fix("table", Part(top, board), Part(legs, random_material(d.rng, "wood")))


def table_from_above(d: Draft) -> None:
    """A table full of tools, toys and crockery; the floor far below it runs round the picture's edge."""
    rng = d.rng
    w, e = rng.uniform(0.6, 1.6), rng.uniform(0.5, 1.1)
    d.clearance_m = 0.15
    aim = [rng.uniform(-0.5, 0.5) * w, rng.uniform(-0.5, 0.5) * e, 0.74]
    eye = look_down(d, aim, 0.5 * min(w, e), pitch_deg=(42, 90), fill=(0.5, 1.5), lowest_m=1.05)
    workplace(d, eye, (0.0, 0.0, 0.75))
    _table(d, w, e)
    largest = float(rng.uniform(0.15, 0.45))
    strew(d, (0.0, 0.0, 0.735), (0.9 * w, 0.9 * e), int(rng.integers(6, 26)), (0.04, largest))
    strew(d, (0.0, 0.0, 0.0), (3.0, 3.0), int(rng.integers(0, 7)), (0.2, 0.9))


def floor_from_above(d: Draft) -> None:
    """A floor, yard or path strewn with things: from arm's height, from a ladder, from a balcony or a drone."""
    rng = d.rng
    style = rng.integers(3)
    if style == 0:  # small things, near
        eye = look_down(d, [0.0, 0.0, 0.05], 0.35, pitch_deg=(40, 90), fill=(0.6, 1.8), lowest_m=0.45)
        d.clearance_m = 0.15
        if rng.random() < 0.6:
            workplace(d, eye, (0.0, 0.0, 0.0))
        else:
            ground(d, hills=0.0)
            daylight(d, extent_m=4)
        strew(d, (0.0, 0.0, -0.003), (2.2, 2.2), int(rng.integers(10, 32)), (0.05, 0.5))
    elif style == 1:  # furniture from the ceiling
        eye = look_down(d, [*rng.normal(0, 0.4, 2), 0.4], 1.3, pitch_deg=(38, 90), fill=(0.5, 1.1), lowest_m=2.1)
        workplace(d, eye, (0.0, 0.0, 0.0))
        for _ in range(int(rng.integers(5, 13))):
            at = (rng.uniform(-1.9, 1.9), rng.uniform(-1.9, 1.9), 0.0)
            d.put(d.pick("floor", "hand"), at, scale=float(rng.uniform(0.7, 1.2)))
        strew(d, (0.0, 0.0, 0.0), (3.5, 3.5), int(rng.integers(3, 14)), (0.1, 0.7))
    else:
        height = ground(d, hills=float(rng.choice([0.0, rng.uniform(0, 1.5)])))
        look_down(d, [*rng.normal(0, 1, 2), 0.5], 3.0, pitch_deg=(36, 90), fill=(0.5, 1.6), lowest_m=3.0)
        daylight(d, extent_m=14)
        for _ in range(int(rng.integers(6, 18))):
            x, y = rng.normal(0, 3.5, 2)
            family = "car" if rng.random() < 0.12 else d.pick("yard")
            d.put(family, (x, y, height(x, y) - 0.03))


def stacks_from_above(d: Draft) -> None:
    """Boxes stacked to unlike heights in a store or on a pallet; deep gaps between, small things on some tops."""
    rng = d.rng
    nx, ny = (int(rng.integers(2, 6)) for _ in range(2))
    cell = float(rng.uniform(0.15, 0.6))
    levels = rng.integers(0, int(rng.integers(2, 6)), (nx, ny))
    unit = cell * rng.uniform(0.35, 1.0)
    tallest = max(1, int(levels.max())) * unit
    radius = 0.5 * cell * float(np.hypot(nx, ny))
    d.clearance_m = 0.2
    aim = [*rng.normal(0, 0.25, 2) * radius, tallest * 0.5]
    eye = look_down(d, aim, radius, pitch_deg=(38, 90), fill=(0.4, 1.1), lowest_m=tallest + 0.3)
    workplace(d, eye, (0.0, 0.0, 0.0))
    colours = [random_material(rng, str(rng.choice(["paper", "paper", "wood", "plastic", "metal"]))) for _ in range(6)]
    for i, j in np.ndindex(nx, ny):
        x, y = (i - nx / 2 + 0.5) * cell, (j - ny / 2 + 0.5) * cell
        for k in range(int(levels[i, j])):
            a, b = cell * rng.uniform(0.7, 0.98, 2)
            turn = m.translation(x, y, (k + 0.5) * unit) @ m.rotation("z", rng.normal(0, 0.06))
            box = m.box(a, b, unit * 0.99).transformed(turn)
            d.put("box", (0.0, 0.0, 0.0), yaw=0.0, parts=(Part(box, colours[int(rng.integers(6))]),))
        if rng.random() < 0.4:
            extent = cell * float(rng.uniform(0.3, 0.9))
            rest(d, clutter_family(d), (x, y, float(levels[i, j] * unit)), extent_m=extent)
