"""Views down: onto tables, into bins."""

from __future__ import annotations

import numpy as np

from datk.data.synthetic import mesh as m
from datk.data.synthetic.families import FAMILIES
from datk.data.synthetic.furniture import open_bin
from datk.data.synthetic.layouts.draft import Draft
from datk.data.synthetic.layouts.indoor import against_walls
from datk.data.synthetic.layouts.light import lamplight
from datk.data.synthetic.layouts.surroundings import room
from datk.data.synthetic.materials import random_material
from datk.data.synthetic.objects import Part
from datk.data.synthetic.scene import Instance


def tabletop(d: Draft) -> None:
    """Things on a table seen obliquely or from above, the room behind."""
    rng = d.rng
    room(d, rng.uniform(4, 6), rng.uniform(4, 6), 2.7, windows=rng.random() < 0.5)
    lamplight(d, centre=(0, 0, 0.7), spread=1.2, height=1.9)
    w, e = rng.uniform(0.8, 1.8), rng.uniform(0.6, 1.2)
    top = m.box(w, e, 0.03, (0, 0, 0.72))
    legs = m.boxes(
        np.array([[a * w * 0.46, b * e * 0.45, 0.35] for a in (-1, 1) for b in (-1, 1)]), np.array([[0.06, 0.06, 0.7]])
    )
    d.fix(
        "table",
        Part(top, random_material(rng, str(rng.choice(["wood", "cloth", "stone", "plastic"])))),
        Part(legs, random_material(rng, "wood")),
    )
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


def bin_from_above(d: Draft) -> None:
    """Looking down into a bin, drawer or box heaped with things lying any way round."""
    rng = d.rng
    w, e, h = rng.uniform(0.35, 0.8), rng.uniform(0.3, 0.6), rng.uniform(0.1, 0.45)
    span = 3.0
    floor = m.quad(np.array([[-span, -span, 0], [span, -span, 0], [span, span, 0], [-span, span, 0]]))
    stand = rng.uniform(0, 0.8)
    d.fix("floor", Part(floor, random_material(rng, "floor")))
    if stand > 0.15:
        d.fix(
            "stand",
            Part(
                m.box(w * rng.uniform(1, 1.5), e * rng.uniform(1, 1.5), stand, (0, 0, stand / 2)),
                random_material(rng, "any"),
            ),
        )
    else:
        stand = 0.0
    d.put("bin", (0, 0, stand), yaw=0.0, parts=open_bin(rng, width=w, depth=e, height=h))
    lamplight(d, centre=(0, 0, stand), spread=0.8, height=2.2)
    heap = np.zeros((16, 16))
    for _ in range(int(rng.integers(6, 40))):
        family = d.pick("hand")
        parts = FAMILIES[family].build(rng)
        tilt = m.random_rotation(rng) if rng.random() < 0.75 else np.eye(4)
        trial = Instance(family, parts, tilt)
        low, high = trial.bounds()
        scale = min(
            float(rng.uniform(0.6, 1.3)), rng.uniform(0.3, 0.75) * min(w, e) / float(np.max(high[:2] - low[:2]))
        )
        half = (high - low)[:2] / 2 * scale
        x, y = (rng.uniform(-1, 1) * max(0.0, s / 2 - q - 0.01) for s, q in ((w, half[0]), (e, half[1])))
        r0, r1 = (int(np.clip((y + s * half[1] * 0.7) / e * 16 + 8, 0, 15)) for s in (-1, 1))
        c0, c1 = (int(np.clip((x + s * half[0] * 0.7) / w * 16 + 8, 0, 15)) for s in (-1, 1))
        patch = heap[r0 : r1 + 1, c0 : c1 + 1]
        base = 0.75 * float(patch.max())
        if base > h * 1.1:
            continue
        centre = (low + high) / 2 * scale
        lift = np.array([x - centre[0], y - centre[1], stand + 0.016 + base - low[2] * scale])
        d.put(family, (float(lift[0]), float(lift[1]), float(lift[2])), yaw=0.0, scale=scale, tilt=tilt, parts=parts)
        patch[:] = base + float(high[2] - low[2]) * scale * 0.8
    for _ in range(int(rng.integers(0, 5))):
        a = rng.uniform(0, 2 * np.pi)
        d.put(d.pick("hand", "floor"), (1.2 * np.cos(a), 1.0 * np.sin(a), 0.0), scale=float(rng.uniform(0.4, 0.9)))
    pitch, a, fov = rng.uniform(0.75, 1.55), rng.uniform(0, 2 * np.pi), rng.uniform(35, 70)
    # from the bin standing free in the picture to a look into one of its corners
    r = max(0.3, 0.5 * np.hypot(w, e) / np.tan(np.radians(fov / 2)) * rng.uniform(0.55, 1.3)) + 0.5 * h
    eye = np.array([r * np.cos(pitch) * np.cos(a), r * np.cos(pitch) * np.sin(a), stand + h * 0.5 + r * np.sin(pitch)])
    d.clearance_m = 0.12
    d.look(eye, [rng.normal(0, 0.06), rng.normal(0, 0.06), stand + h * 0.4], fov=(fov, fov), roll=1.2)
