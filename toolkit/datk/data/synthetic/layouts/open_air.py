"""Streets, country and yards."""

from __future__ import annotations

import numpy as np

from datk.data.synthetic import mesh as m
from datk.data.synthetic.layouts.draft import Draft
from datk.data.synthetic.layouts.light import daylight
from datk.data.synthetic.layouts.surroundings import ground
from datk.data.synthetic.materials import Material, random_material
from datk.data.synthetic.objects import Part
from datk.data.synthetic.textures import layer_of


def street(d: Draft) -> None:
    """A road between buildings, with lane marks, pavements, cars, trees, poles, people."""
    rng = d.rng
    daylight(d, focus=(0, 14, 0), extent_m=28)
    ground(d, hills=0.0, kind="grass" if rng.random() < 0.5 else "stone")
    half = rng.uniform(2.8, 7)
    bend = rng.normal(0, 0.0025)
    y = np.linspace(-20, 130, 60)
    centre = bend * y * y

    def strip(left: float, right: float, z: float, part: slice = slice(None)) -> m.Mesh:
        pts = np.stack([np.stack([centre[part] + s, y[part], 0 * y[part] + z], -1) for s in (left, right)], axis=1)
        return m.grid(pts)

    d.fix("road", Part(strip(-half, half, 0.03), random_material(rng, "asphalt")))
    kerb = rng.uniform(1.2, 3.5)
    paving = random_material(rng, "stone")
    for s in (-1, 1):
        inner, outer = sorted((s * half, s * (half + kerb)))
        slab = strip(inner, outer, 0.16)
        face = np.stack([np.stack([centre + s * half, y, 0 * y + z], -1) for z in (0.03, 0.16)], axis=1)
        d.fix("pavement", Part(m.merge([slab, m.grid(face)]), paving))
    white = Material((0.75, 0.75, 0.72), (0.5, 0.5, 0.45), layer_of("grunge", 1), texture_scale_m=1.0)
    marks = [strip(-0.07, 0.07, 0.04, slice(i, i + 2)) for i in range(0, 44, 3)]
    if rng.random() < 0.7:
        marks += [strip(s * (half - 0.4) - 0.06, s * (half - 0.4) + 0.06, 0.04) for s in (-1, 1)]
    if rng.random() < 0.3:
        marks += [m.box(0.45, 3.0, 0.01, (x, 9.0, 0.037)) for x in np.arange(-half + 0.5, half, 0.95)]
    d.fix("lane_marks", Part(m.merge(marks), white))
    built = rng.random() < 0.75
    for s in (-1, 1):
        at = rng.uniform(-6, 4)
        while at < 90:
            x = bend * at * at + s * (half + kerb)
            if built:
                d.put("building", (x + s * rng.uniform(5.5, 9), at + 5, 0.1), yaw=s * np.pi / 2)
                at += rng.uniform(10, 18)
            else:
                d.put(str(rng.choice(["tree", "conifer", "bush", "fence"])), (x + s * rng.uniform(1, 6), at, 0.0))
                at += rng.uniform(5, 14)
    for _ in range(int(rng.integers(2, 9))):
        s, at = rng.choice([-1, 1]), rng.uniform(4, 60)
        x = bend * at * at + s * half * float(rng.choice([0.5, 0.85]))
        d.put("car", (x, at, 0.03), yaw=np.pi / 2 * float(rng.choice([1, -1])) + rng.normal(0, 0.05))
    for _ in range(int(rng.integers(4, 14))):
        s, at = rng.choice([-1, 1]), rng.uniform(2, 50)
        x = bend * at * at + s * (half + rng.uniform(0.3, kerb))
        family = str(
            rng.choice(
                ["lamp_post", "tree", "person", "person", "bicycle", "bush", "railing", "motorcycle", "animal", "can"]
            )
        )
        d.put(family, (x, at, 0.16), yaw=rng.normal(np.pi / 2, 0.3))
    if rng.random() < 0.5:
        d.put("cables", (half + kerb * 0.8, 14.0, 0.1), yaw=np.pi / 2)
    x = rng.uniform(-half * 0.8, half + kerb)
    d.look(
        [x, rng.uniform(-3, 0), rng.uniform(1.1, 3.2)],
        [rng.normal(0, 2.5), 18, rng.uniform(0.5, 3.0)],
        fov=(35, 65),
        roll=0.03,
    )


def open_country(d: Draft) -> None:
    """Rolling ground with trees, rocks, fences, animals, sometimes a house."""
    rng = d.rng
    daylight(d, focus=(0, 10, 0), extent_m=24)
    height = ground(d, hills=float(rng.uniform(0.2, 3.5)))
    for _ in range(int(rng.integers(10, 30))):
        y = 2.5 + 50 * rng.random() ** 1.8
        x = rng.normal(0, 0.5) * (y + 4)
        family = str(
            rng.choice(
                [
                    "tree",
                    "tree",
                    "conifer",
                    "rock",
                    "bush",
                    "fence",
                    "bare_branches",
                    "animal",
                    "person",
                    "leafy_plant",
                    "railing",
                    "rock",
                ]
            )
        )
        d.put(family, (x, y, height(x, y) - 0.08))
        if sum(len(p.mesh) for i in d.instances for p in i.parts) > 16000:
            break
    if rng.random() < 0.4:
        x, y = rng.normal(0, 9), rng.uniform(18, 50)
        d.put("building", (x, y, height(x, y) - 0.3))
    z = height(0.0, 0.0) + rng.uniform(0.5, 2.2) * float(rng.choice([1, 1, 1, 3]))
    d.look([0, 0, z], [rng.normal(0, 2), 10, height(0.0, 10.0) + rng.uniform(0, 2.5)], fov=(35, 70))


def yard(d: Draft) -> None:
    """A courtyard: wall or house, chairs, bicycles, plants, stairs, railings, at 2-10 m."""
    rng = d.rng
    daylight(d, focus=(0, 4, 0), extent_m=12)
    ground(d, hills=0.0)
    if rng.random() < 0.7:
        place = m.translation(0, rng.uniform(5, 10), 0) @ m.rotation("z", rng.normal(0, 0.3))
        d.fix(
            "wall",
            Part(
                m.box(24, 0.3, rng.uniform(1.5, 6), (0, 0, 1.5)).transformed(place),
                random_material(rng, str(rng.choice(["wall", "facade", "stone"]))),
            ),
        )
    else:
        d.put("building", (rng.normal(0, 3), 14.0, 0.0), yaw=rng.normal(0, 0.3))
    for _ in range(int(rng.integers(5, 14))):
        y = rng.uniform(1.8, 8)
        d.put(d.pick("yard"), (rng.normal(0, 0.45) * (y + 1), y, 0.0), scale=float(rng.uniform(0.9, 1.3)))
    d.look([0, 0, rng.uniform(0.5, 2.2)], [rng.normal(0, 0.6), 5, rng.uniform(0.3, 1.4)], fov=(35, 65))
