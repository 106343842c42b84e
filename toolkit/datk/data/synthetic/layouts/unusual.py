"""Views that break the habits of photographs: things in mid-air, near things at the top."""

from __future__ import annotations

import numpy as np

from datk.data.synthetic import mesh as m
from datk.data.synthetic.layouts.draft import Draft
from datk.data.synthetic.layouts.indoor import living_room
from datk.data.synthetic.layouts.light import daylight, lamplight
from datk.data.synthetic.layouts.open_air import open_country, street, yard
from datk.data.synthetic.materials import random_material
from datk.data.synthetic.objects import Part


def floating(d: Draft) -> None:
    """Things at random places in space, no ground to stand on: depth must be read from the things themselves."""
    rng = d.rng
    far = rng.uniform(4, 12)
    if rng.random() < 0.75:
        tilt = (
            m.random_rotation(rng)
            if rng.random() < 0.3
            else m.rotation("x", rng.normal(0, 0.4)) @ m.rotation("z", rng.normal(0, 0.5))
        )
        plane = m.quad(np.array([[-30, 0, -30], [30, 0, -30], [30, 0, 30], [-30, 0, 30]]))
        plane = plane.transformed(m.translation(0, far + 2, 0) @ tilt)
        d.fix(
            "plane", Part(plane, random_material(rng, str(rng.choice(["wall", "stone", "wood", "picture", "floor"]))))
        )
    if rng.random() < 0.5:
        lamplight(d, centre=(0, far * 0.4, -1), spread=2, height=4)
    else:
        daylight(d, focus=(0, far / 2, 0), extent_m=far)
    for _ in range(int(rng.integers(8, 30))):
        y = far * rng.uniform(0.12, 1.0)
        at = (rng.normal(0, 0.3) * y, y, rng.normal(0, 0.3) * y)
        d.put(
            d.pick("hand", "floor", "wall"), at, scale=float(np.exp(rng.normal(0.3, 0.5))), tilt=m.random_rotation(rng)
        )
    d.look([0, 0, 0], [0, 1, 0], fov=(40, 75), roll=0.5)


def overhang(d: Draft) -> None:
    """Near things at the top or across the picture (branches, fence, grille, lamps), the far world behind."""
    rng = d.rng
    [street, open_country, yard, living_room][int(rng.integers(4))](d)
    camera = d.camera
    assert camera is not None
    right, down, forward = camera.rotation
    style = rng.integers(4)
    half_view = 0.5 / camera.focal
    for _ in range(int(rng.integers(1, 4))):
        z = rng.uniform(0.7, 1.6)
        at = (
            camera.position
            + forward * z
            + right * rng.uniform(-1, 1) * z * half_view
            - down * rng.uniform(0.5, 1.1) * z * half_view
        )
        if style == 0:
            d.put(
                str(rng.choice(["bare_branches", "leafy_plant"])),
                at,
                scale=float(0.45 * z),
                tilt=m.rotation("x", np.pi + rng.normal(0, 0.5)),
            )
        elif style == 1:
            d.put("leafy_plant", at, scale=float(0.5 * z), tilt=m.random_rotation(rng))
        elif style == 2:
            d.put("hanging_lamp", at + np.array([0, 0, 0.5]), scale=float(0.5 * z))
        else:
            low = camera.position + forward * z * 1.3 - np.array([0, 0, rng.uniform(0.5, 1.0)])
            yaw = float(np.arctan2(right[1], right[0])) + rng.normal(0, 0.3)
            d.put(str(rng.choice(["grille", "railing", "fence"])), low, yaw=yaw)
            break
