"""One thing, or leaves, filling the picture."""

from __future__ import annotations

import numpy as np

from datk.data.synthetic.families import FAMILIES
from datk.data.synthetic.layouts.draft import Draft
from datk.data.synthetic.layouts.indoor import against_walls
from datk.data.synthetic.layouts.light import daylight, lamplight
from datk.data.synthetic.layouts.surroundings import backdrop, ground, room
from datk.data.synthetic.scene import Instance

CLOSE_UP = (
    "chair",
    "garden_chair",
    "bicycle",
    "motorcycle",
    "wheel",
    "person",
    "animal",
    "rosette",
    "leafy_plant",
    "car",
    "gadget",
    "bottle",
    "cup",
    "ball",
    "can",
    "blob",
    "books",
    "monitor",
    "floor_lamp",
    "table",
    "sofa",
    "cabinet",
    "shelf",
    "grille",
    "perforated_plate",
    "donut",
    "box",
    "rock",
    "bush",
    "ladder",
    "fence",
    "bare_branches",
    "fabric",
    "glass_screen",
    "tree",
)


def object_close_up(d: Draft) -> None:
    """One thing, photographed for its own sake, before a wall, a room or open country."""
    rng = d.rng
    family = str(rng.choice(CLOSE_UP))
    parts = FAMILIES[family].build(rng)
    low, high = Instance(family, parts, np.eye(4)).bounds()
    extent = float(np.max(high - low))
    size = float(rng.uniform(0.7, 1.4))
    subject = d.put(family, (0.0, 0.0, 0.0), scale=size / extent, parts=parts)
    low, high = subject.bounds()
    centre = (low + high) / 2
    style = rng.integers(5)
    if style <= 1:
        backdrop(d, distance=float(rng.uniform(0.7, 5) + (high - low)[1] / 2))
        lamplight(d, centre=(0, -0.5, 0), spread=1.5, height=2.6)
    elif style == 2:
        room(d, rng.uniform(3, 8), rng.uniform(4, 8), rng.uniform(2.3, 3))
        lamplight(d, centre=(0, 0, 0), spread=1.5, height=2.3)
        against_walls(d, 3.6, 4.6, int(rng.integers(2, 7)))
    else:
        height = ground(d, hills=float(rng.choice([0.0, rng.uniform(0, 2)])))
        daylight(d, extent_m=10)
        for _ in range(int(rng.integers(2, 9))):
            x, y = rng.normal(0, 9), rng.uniform(3, 30)
            d.put(d.pick("yard", "street"), (x, y, height(x, y) - 0.02))
    for _ in range(int(rng.integers(0, 5))):
        at = (rng.normal(0, 1.4), rng.uniform(0.3, 3.0), 0.0)
        d.put(d.pick("hand", "floor"), at, scale=float(rng.uniform(0.7, 1.6)))
    if rng.random() < 0.35:  # something near, at a side of the picture
        d.put(
            d.pick("hand", "plant"),
            (rng.choice([-1, 1]) * rng.uniform(0.5, 0.9), -rng.uniform(0.6, 1.2), 0.0),
            scale=1.3,
        )
    fov = rng.uniform(32, 60)
    distance = float(np.linalg.norm(high - low)) * 0.5 / np.tan(np.radians(fov / 2)) * rng.uniform(0.75, 1.3)
    pitch, side, roll = rng.uniform(-0.05, 0.75), rng.normal(0, 0.35), 0.05
    if rng.random() < 0.2:  # from above, any side up
        pitch, side, roll = rng.uniform(0.75, 1.5), rng.uniform(0, 2 * np.pi), 3.0
    eye = centre + distance * np.array([np.sin(side) * np.cos(pitch), -np.cos(side) * np.cos(pitch), np.sin(pitch)])
    eye[2] = max(eye[2], 0.12)
    d.look(eye, centre + rng.normal(0, 0.06, 3) * (high - low), fov=(fov, fov), roll=roll)


def plants(d: Draft) -> None:
    """Leaves filling the frame, at several depths, before a textured wall or in the open."""
    rng = d.rng
    if rng.random() < 0.65:
        backdrop(d, distance=float(rng.uniform(0.6, 2.5)))
        lamplight(d, centre=(0, -0.3, 0), spread=1.4, height=2.6)
    else:
        ground(d, hills=float(rng.uniform(0, 0.6)))
        daylight(d, extent_m=8)
    for _ in range(int(rng.integers(4, 13))):
        family = str(rng.choice(["rosette", "leafy_plant", "bush", "rosette", "bare_branches"]))
        parts = FAMILIES[family].build(rng)
        low, high = Instance(family, parts, np.eye(4)).bounds()
        scale = float(rng.uniform(0.4, 0.9) / np.max(high - low))
        at = (rng.normal(0, 0.45), rng.uniform(-0.4, 0.9), float(rng.choice([0.0, 0.0, rng.uniform(0, 0.4)])))
        d.put(family, at, scale=scale, parts=parts)
    pitch = rng.uniform(-0.1, 0.9) if rng.random() < 0.7 else rng.uniform(0.9, 1.5)
    r = rng.uniform(0.9, 1.7)
    centre = np.array([0, 0.1, rng.uniform(0.15, 0.45)])
    side = rng.normal(0, 0.3)
    eye = centre + r * np.array([np.sin(side) * np.cos(pitch), -np.cos(side) * np.cos(pitch), np.sin(pitch)])
    eye[2] = max(eye[2], 0.15)
    d.clearance_m = 0.25
    d.look(eye, centre, fov=(32, 60))
