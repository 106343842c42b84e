"""Views without a horizon: clutter within arm's reach at eye level, and looks up at ceilings, crowns and facades."""

from __future__ import annotations

import numpy as np

from datk.data.synthetic import mesh as m
from datk.data.synthetic.layouts.clutter import clutter_family, rest
from datk.data.synthetic.layouts.draft import Draft
from datk.data.synthetic.layouts.indoor import against_walls
from datk.data.synthetic.layouts.light import daylight, lamplight
from datk.data.synthetic.layouts.surroundings import backdrop, ground, room
from datk.data.synthetic.materials import random_material
from datk.data.synthetic.objects import Part


def clutter_close_up(d: Draft) -> None:
    """Things 0.3 to 1.2 m away at eye level: on a board, in an open cupboard, or with no support in sight."""
    rng = d.rng
    style = rng.integers(3)
    back = float(rng.uniform(0.9, 1.4))
    d.clearance_m = 0.12
    lamplight(d, centre=(0, 0.3, 0), spread=0.9, height=2.0)
    eye_z = float(rng.uniform(0.06, 0.4))
    if style == 1:  # a compartment: near rims on all sides, the back in the middle
        w, h = rng.uniform(0.5, 1.2), rng.uniform(0.45, 0.7)
        y0 = rng.uniform(0.3, 0.6)
        t, deep, mid = 0.02, back - y0, (back + y0) / 2
        slabs = [[0, mid, -t / 2], [0, mid, h + t / 2], [-w / 2, mid, h / 2], [w / 2, mid, h / 2], [0, back, h / 2]]
        sizes = [[w + t, deep, t], [w + t, deep, t], [t, deep, h], [t, deep, h], [w, t, h]]
        wood = random_material(rng, str(rng.choice(["wood", "metal", "plastic"])))
        d.fix("cupboard", Part(m.boxes(np.array(slabs, dtype=float), np.array(sizes)), wood))
        backdrop(d, distance=back + 0.3)
        lamplight(d, centre=(0, -0.2, 0), spread=0.3, height=1.2)
        reach, half = (y0 + 0.05, back - 0.1), w / 2 - 0.08
    else:
        backdrop(d, distance=float(rng.uniform(back, 3.5)))
        reach, half = (0.3, back - 0.05), 9.0
        if style == 0:
            board = m.box(2.4, 1.6, 0.03, (0, 0.6, -0.015))
            d.fix("board", Part(board, random_material(rng, str(rng.choice(["wood", "cloth", "stone", "plastic"])))))
    for _ in range(int(rng.integers(6, 19))):
        y = reach[0] + (reach[1] - reach[0]) * rng.random() ** 0.8
        x = float(np.clip(rng.normal(0, 0.45) * (y + 0.1), -half, half))
        z = 0.0 if style < 2 else eye_z + rng.normal(0, 0.35) * y
        extent = float(rng.uniform(0.05, 0.42 if style < 2 else 0.3))
        rest(d, clutter_family(d), (x, y, z), extent_m=extent, lying=0.3 if style < 2 else 1.0)
    d.look([0, 0, eye_z], [rng.normal(0, 0.1), 0.7, eye_z + rng.normal(0, 0.12)], fov=(40, 75), roll=0.25)


def looking_up(d: Draft) -> None:
    """Up from below: a ceiling with beams, ducts and lamps; crowns of trees; facades and wires against the sky."""
    rng = d.rng
    style = rng.integers(3)
    # steeper in the open there would often be nothing but sky
    pitch, a = np.radians(rng.uniform(22, 88 if style == 0 else 50)), rng.uniform(0, 2 * np.pi)
    eye = np.array([*rng.normal(0, 0.3, 2), rng.uniform(0.4, 1.7)])
    if style == 0:
        _ceiling(d, float(eye[2]))
    elif style == 1:
        height = ground(d, hills=0.0)
        eye[2] += height(0.0, 0.0)
        daylight(d, extent_m=12)
        for i in range(int(rng.integers(3, 8))):
            r, turn = (rng.uniform(1.6, 4), rng.normal(a, 0.2)) if i == 0 else (rng.uniform(1.6, 9), rng.normal(a, 0.7))
            family = str(rng.choice(["tree", "tree", "conifer", "bare_branches", "lamp_post"]))
            scale = float(rng.uniform(0.6, 1.2) * (2.2 if family == "bare_branches" else 1.0))
            d.put(family, (eye[0] + r * np.cos(turn), eye[1] + r * np.sin(turn), -0.1), scale=scale)
    else:
        ground(d, hills=0.0, kind="stone")
        daylight(d, extent_m=25)
        for side in (-0.9, 0.0, 0.9):
            if side == 0.0 or rng.random() < 0.75:
                r, turn = rng.uniform(7, 14), a + side + rng.normal(0, 0.15)
                d.put("building", (r * np.cos(turn), r * np.sin(turn), 0.0), yaw=turn - np.pi / 2)
        for family in ("cables", "lamp_post", "lamp_post", "tree", "conifer"):
            if rng.random() < 0.5:
                r, turn = rng.uniform(1.5, 8), a + rng.normal(0, 0.6)
                d.put(family, (r * np.cos(turn), r * np.sin(turn), 0.0))
    forward = np.array([np.cos(pitch) * np.cos(a), np.cos(pitch) * np.sin(a), np.sin(pitch)])
    d.clearance_m = 0.25
    d.look(eye, eye + forward, fov=(45, 80), roll=0.15 if rng.random() < 0.6 else 3.0)


def _ceiling(d: Draft, eye_z: float) -> None:
    """A room or hall whose ceiling carries beams, ducts and many lamps; tall things along the walls."""
    rng = d.rng
    w, e, h = rng.uniform(2.5, 7), rng.uniform(2.5, 7), max(eye_z + 1.0, rng.uniform(2.3, 5))
    room(d, w, e, h, windows=rng.random() < 0.2)
    lamplight(d, centre=(0, 0, 0), spread=min(w, e) * 0.3, height=h)
    if rng.random() < 0.6:
        n, t = int(rng.integers(2, 7)), rng.uniform(0.08, 0.3)
        x = (np.arange(n) + 0.5) / n * w - w / 2
        beams = m.boxes(np.stack([x, 0 * x, 0 * x + h - t / 2], -1), np.array([[t * rng.uniform(0.4, 1), e, t]]))
        d.fix("beams", Part(beams, random_material(rng, str(rng.choice(["wood", "metal", "stone"])))))
    for _ in range(int(rng.integers(0, 5))):
        z, r, at = h - rng.uniform(0.15, 0.6), rng.uniform(0.03, 0.16), rng.uniform(-0.45, 0.45)
        ends = np.array([[[-w / 2, at * e, z]], [[w / 2, at * e, z]]])
        if rng.random() < 0.5:
            ends = np.array([[[at * w, -e / 2, z]], [[at * w, e / 2, z]]])
        d.fix("duct", Part(m.tubes(ends[0], ends[1], r, segments=10), random_material(rng, "metal")))
    for _ in range(int(rng.integers(1, 7))):
        d.put("hanging_lamp", (rng.uniform(-0.4, 0.4) * w, rng.uniform(-0.4, 0.4) * e, h))
    against_walls(d, w, e, int(rng.integers(3, 9)))
