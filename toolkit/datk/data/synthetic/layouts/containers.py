"""Views down into bins, boxes, drawers and trays whose walls stand higher than what lies in them."""

from __future__ import annotations

import numpy as np

from datk.data.synthetic import mesh as m
from datk.data.synthetic.furniture import open_bin
from datk.data.synthetic.layouts.clutter import heap, rest, strew
from datk.data.synthetic.layouts.draft import Draft
from datk.data.synthetic.layouts.overhead import look_down, stand, workplace
from datk.data.synthetic.materials import random_material
from datk.data.synthetic.objects import Part


def bin_from_above(d: Draft) -> None:
    """Looking down at a bin or box, from nearly empty to heaped over its rim; sometimes another beside it."""
    rng = d.rng
    w, e, h = rng.uniform(0.35, 0.8), rng.uniform(0.3, 0.6), rng.uniform(0.1, 0.5)
    z = stand(d, w, e, 0.8)
    # from the bin standing free in the picture to a look into one of its corners
    aim = [rng.normal(0, 0.06), rng.normal(0, 0.06), z + h * 0.4]
    eye = look_down(d, aim, 0.5 * float(np.hypot(w, e)), pitch_deg=(43, 90), fill=(0.45, 1.3), lowest_m=z + h + 0.2)
    d.clearance_m = 0.12
    workplace(d, eye, (0.0, 0.0, z))
    d.put("bin", (0, 0, z), yaw=0.0, parts=open_bin(rng, width=w, depth=e, height=h))
    heap(d, (0.0, 0.0, z + 0.016), (w, e), int(rng.integers(3, 34)), level_m=h * rng.uniform(0.0, 1.1))
    for side in (-1, 1):
        if rng.random() < 0.25:
            x, tall = side * w * rng.uniform(1.05, 1.3), rng.uniform(0.1, 0.5)
            d.put("bin", (x, 0, z), yaw=0.0, parts=open_bin(rng, width=w, depth=e, height=tall))
            heap(d, (x, 0.0, z + 0.016), (w, e), int(rng.integers(0, 9)), level_m=tall * 0.6)
    strew(d, (0.0, 0.0, 0.0), (2.6, 2.4), int(rng.integers(0, 5)), (0.15, 0.6))


def deep_bin(d: Draft) -> None:
    """Into a deep box from just above its rim: walls on all sides, the far floor with some things in the middle."""
    rng = d.rng
    w, e = rng.uniform(0.3, 0.9), rng.uniform(0.3, 0.7)
    h = min(w, e) * rng.uniform(0.5, 1.5)
    z = stand(d, w, e, 0.4)
    aim = [rng.uniform(-0.25, 0.25) * w, rng.uniform(-0.25, 0.25) * e, z + h * rng.uniform(0.0, 0.3)]
    d.clearance_m = 0.05
    eye = look_down(d, aim, 0.5 * min(w, e), pitch_deg=(60, 90), fill=(0.6, 1.1), fov=(45, 85), lowest_m=z + h + 0.12)
    workplace(d, eye, (0.0, 0.0, z))
    d.put("bin", (0, 0, z), yaw=0.0, parts=open_bin(rng, width=w, depth=e, height=h))
    if rng.random() < 0.35:  # the flaps of a carton
        card = random_material(rng, "paper")
        for turn, long, away in ((0, w, e / 2), (1, e, w / 2), (2, w, e / 2), (3, e, w / 2)):
            flap = m.box(long, 0.5 * min(w, e), 0.006, (0, 0.25 * min(w, e), 0))
            swing = m.translation(0, away, h) @ m.rotation("x", rng.uniform(-1.2, 0.9))
            place = m.translation(0, 0, z) @ m.rotation("z", turn * np.pi / 2) @ swing
            d.put("flap", (0.0, 0.0, 0.0), yaw=0.0, parts=(Part(flap.transformed(place), card),))
    heap(d, (0.0, 0.0, z + 0.016), (w, e), int(rng.integers(1, 18)), level_m=h * rng.uniform(0.0, 0.35))
    strew(d, (0.0, 0.0, 0.0), (2.6, 2.4), int(rng.integers(0, 4)), (0.15, 0.6))


def drawer_or_tray(d: Draft) -> None:
    """A pulled-out drawer below its cabinet, or a tray: flat, often with compartments."""
    rng = d.rng
    w, e, h = rng.uniform(0.3, 0.9), rng.uniform(0.3, 0.6), rng.uniform(0.04, 0.2)
    drawer = rng.random() < 0.5
    z = rng.uniform(0.2, 1.0) if drawer else stand(d, w, e, 0.9)
    d.clearance_m = 0.1
    aim = [rng.uniform(-0.3, 0.3) * w, rng.uniform(-0.3, 0.3) * e, z]
    azimuth = (-2.6, -0.55) if drawer else (0, 2 * np.pi)
    eye = look_down(
        d, aim, 0.5 * min(w, e), pitch_deg=(45, 88), fill=(0.7, 1.6), azimuth=azimuth, lowest_m=z + h + 0.25
    )
    workplace(d, eye, (0.0, 0.0, z))
    d.put("bin", (0, 0, z), yaw=0.0, parts=open_bin(rng, width=w, depth=e, height=h))
    if drawer:
        above = z + h + rng.uniform(0.02, 0.35)
        body = m.box(w + 0.08, 0.5, above, (0, e / 2 + 0.26, above / 2))
        d.fix("cabinet_body", Part(body, random_material(rng, "wood")))
        front = m.box(w + 0.08, 0.02, h + 0.05, (0, -e / 2 - 0.01, z + h / 2))
        d.fix("drawer_front", Part(front, random_material(rng, "wood")))
        strew(d, (0.0, e / 2 + 0.26, above), (w, 0.35), int(rng.integers(0, 5)), (0.06, 0.25))
    nx, ny = (int(rng.integers(1, 5)) for _ in range(2)) if rng.random() < 0.5 else (1, 1)
    wall = 0.008
    lines = [([(i / nx - 0.5) * w, 0, h * 0.45], [wall, e, h * 0.9]) for i in range(1, nx)]
    lines += [([0, (j / ny - 0.5) * e, h * 0.45], [w, wall, h * 0.9]) for j in range(1, ny)]
    if lines:
        ribs = m.boxes(np.array([c for c, _ in lines]), np.array([s for _, s in lines]))
        ribs = ribs.transformed(m.translation(0, 0, z))
        d.put("divider", (0.0, 0.0, 0.0), yaw=0.0, parts=(Part(ribs, random_material(rng, "plastic")),))
    cell = (w / nx, e / ny)
    for i, j in np.ndindex(nx, ny):
        x, y = (i + 0.5) / nx * w - w / 2, (j + 0.5) / ny * e - e / 2
        if nx * ny == 1:
            heap(d, (x, y, z + 0.016), cell, int(rng.integers(3, 20)), level_m=h * rng.uniform(0.1, 1.0))
        else:
            for _ in range(int(rng.integers(0, 3))):
                extent = float(rng.uniform(0.3, 0.85)) * min(cell)
                at = (x + rng.normal(0, 0.08) * cell[0], y + rng.normal(0, 0.08) * cell[1], z + 0.016)
                rest(d, str(d.pick("hand")), at, extent_m=extent, lying=0.7)
