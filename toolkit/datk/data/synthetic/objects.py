"""Solid object families of hand to furniture size. Each stands on z = 0 about the origin, in metres."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from datk.data.synthetic import mesh as m
from datk.data.synthetic.materials import Material, glass, mirror, random_material
from datk.data.synthetic.mesh import Mesh


class Part(NamedTuple):
    """A mesh and what it is made of."""

    mesh: Mesh
    material: Material


Parts = tuple[Part, ...]
Rng = np.random.Generator


def crate_box(rng: Rng) -> Parts:
    """A cardboard box or block, sometimes with a lid of another colour."""
    w, d, h = rng.uniform(0.08, 0.5, 3)
    parts = [Part(m.box(w, d, h, (0, 0, h / 2)), random_material(rng, "any"))]
    if rng.random() < 0.3:
        parts.append(Part(m.box(w * 1.04, d * 1.04, h * 0.12, (0, 0, h)), random_material(rng, "any")))
    return tuple(parts)


def ball(rng: Rng) -> Parts:
    """A ball; one in six is chrome."""
    r = rng.uniform(0.04, 0.25)
    shape = m.sphere(r).transformed(m.translation(0, 0, r) @ m.random_rotation(rng))
    return (Part(shape, mirror(rng) if rng.random() < 0.16 else random_material(rng, "any")),)


def can(rng: Rng) -> Parts:
    """A can, drum or cone."""
    r, h = rng.uniform(0.03, 0.2), rng.uniform(0.06, 0.5)
    top = r * float(rng.choice([1.0, 1.0, 0.0, rng.uniform(0.4, 1.3)]))
    return (Part(m.cylinder(r, h, top_radius=top, segments=18), random_material(rng, "any")),)


def bottle(rng: Rng) -> Parts:
    """A bottle, vase or jar turned about its axis; a third of them glass."""
    h = rng.uniform(0.12, 0.45)
    z = np.linspace(0, h, 12)
    radius = h * (0.12 + 0.1 * rng.random()) * (1 + 0.5 * np.cumsum(rng.normal(0, 0.22, 12)).clip(-1.2, 1.2))
    if rng.random() < 0.6:
        radius[8:] = radius[8:] * np.array([0.7, 0.4, 0.33, 0.33])
    profile = np.concatenate([[[0.0, 0.0]], np.stack([radius.clip(0.006), z], axis=-1)])
    material = glass(rng) if rng.random() < 0.33 else random_material(rng, "plastic")
    return (Part(m.lathe(profile, segments=18), material),)


def cup(rng: Rng) -> Parts:
    """An open cup, bowl or bucket with a handle."""
    r, h = rng.uniform(0.04, 0.16), rng.uniform(0.05, 0.22)
    flare = rng.uniform(0.9, 1.6)
    outer = np.array([[0, 0], [r, 0], [r * flare, h], [r * flare * 0.93, h], [r * 0.9, 0.01]])
    material = random_material(rng, "plastic")
    parts = [Part(m.lathe(np.concatenate([outer, [[0, 0.012]]]), segments=20), material)]
    if rng.random() < 0.6:
        handle = m.ring(h * 0.3, h * 0.05, segments=14, sides=6).transformed(m.translation(r * flare, 0, h * 0.55))
        parts.append(Part(handle, material))
    return tuple(parts)


def donut(rng: Rng) -> Parts:
    """A torus lying, leaning or standing (tyre, roll of tape)."""
    r = rng.uniform(0.05, 0.3)
    t = r * rng.uniform(0.15, 0.45)
    tilt = float(rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)]))
    height = t + r * abs(np.cos(tilt))
    shape = m.ring(r, t).transformed(m.translation(0, 0, height) @ m.rotation("x", tilt))
    return (Part(shape, random_material(rng, "any")),)


def blob(rng: Rng) -> Parts:
    """A lumpy body: stone, potato, plush, bag."""
    base = m.sphere(1.0, segments=18, rings=12)
    points = base.triangles
    wave = np.zeros(points.shape[:-1])
    for _ in range(5):
        k = rng.normal(0, 1.6, 3)
        wave += 0.13 * np.sin(points @ k + rng.uniform(0, 6))
    size = rng.uniform(0.06, 0.3) * rng.uniform(0.6, 1.4, 3)
    shape = m.Mesh(points * (1 + wave)[..., None], base.normals).transformed(m.scaling(*size))
    lowest = float(shape.triangles[..., 2].min())
    kind = str(rng.choice(["stone", "cloth", "leaf", "any"]))
    return (Part(shape.transformed(m.translation(0, 0, -lowest)), random_material(rng, kind)),)


def books(rng: Rng) -> Parts:
    """A pile or a row of books."""
    n = int(rng.integers(2, 8))
    lying = rng.random() < 0.5
    parts, at = [], 0.0
    for _ in range(n):
        t, w, h = rng.uniform(0.015, 0.05), rng.uniform(0.12, 0.2), rng.uniform(0.17, 0.28)
        if lying:
            shape = m.box(h, w, t, (0, 0, at + t / 2)).transformed(m.rotation("z", rng.normal(0, 0.25)))
        else:
            shape = m.box(t * 0.96, w, h, (at + t / 2 - n * 0.016, 0, h / 2))
        at += t
        parts.append(Part(shape, random_material(rng, "paper" if rng.random() < 0.7 else "picture")))
    return tuple(parts)


def toy_animal(rng: Rng) -> Parts:
    """A figure of a body, head, legs and ears; from a toy to a big dog."""
    s = rng.uniform(0.25, 1.0)
    coat = random_material(rng, str(rng.choice(["cloth", "plastic", "bark", "soil"])))
    body = m.sphere(1, segments=14, rings=9).transformed(
        m.translation(0, 0, 0.5 * s) @ m.scaling(0.42 * s, 0.2 * s, 0.2 * s)
    )
    head = m.sphere(0.15 * s, segments=12, rings=8).transformed(m.translation(0.45 * s, 0, 0.72 * s))
    nose = m.sphere(0.07 * s, segments=8, rings=6).transformed(m.translation(0.58 * s, 0, 0.68 * s))
    feet = np.array([[x, y, 0.0] for x in (-0.28, 0.28) for y in (-0.1, 0.1)]) * s
    hips = feet * np.array([1, 1, 0]) + np.array([0, 0, 0.45 * s])
    legs = m.tubes(feet, hips, 0.045 * s, segments=8)
    tail = m.tubes(np.array([[-0.4, 0, 0.55]]) * s, np.array([[-0.62, rng.normal(0, 0.1), 0.8]]) * s, 0.025 * s)
    ears = m.tubes(
        np.array([[0.42, -0.09, 0.8], [0.42, 0.09, 0.8]]) * s,
        np.array([[0.4, -0.13, 0.93], [0.4, 0.13, 0.93]]) * s,
        0.035 * s,
    )
    return Part(m.merge([body, head, legs, tail, ears]), coat), Part(nose, random_material(rng, "plastic"))


def person(rng: Rng) -> Parts:
    """A standing or walking figure of simple limbs, 1.5-1.9 m."""
    s = rng.uniform(1.5, 1.9) / 1.75
    step = rng.uniform(-0.3, 0.3)
    swing = rng.uniform(-0.35, 0.35)
    cloth, trousers, skin = random_material(rng, "cloth"), random_material(rng, "cloth"), random_material(rng, "wood")
    torso = m.sphere(1, segments=14, rings=9).transformed(
        m.translation(0, 0, 1.17 * s) @ m.scaling(0.14 * s, 0.22 * s, 0.34 * s)
    )
    hips = np.array([[0, -0.09, 0.9], [0, 0.09, 0.9]]) * s
    feet = np.array([[step, -0.1, 0.04], [-step, 0.1, 0.04]]) * s
    shoulder = np.array([[0, -0.22, 1.4], [0, 0.22, 1.4]]) * s
    hand = np.array([[swing, -0.28 - 0.2 * rng.random(), 0.85], [-swing, 0.28 + 0.2 * rng.random(), 0.85]]) * s
    head = m.sphere(0.11 * s, segments=12, rings=9).transformed(
        m.translation(0.02, 0, 1.65 * s) @ m.scaling(1, 0.85, 1.15)
    )
    return (
        Part(m.merge([torso, m.tubes(shoulder, hand, 0.05 * s, segments=8)]), cloth),
        Part(m.tubes(hips, feet, 0.075 * s, segments=8), trousers),
        Part(head, skin),
    )


def gadget(rng: Rng) -> Parts:
    """A device made of boxes and cylinders: camera, drill, kettle, engine block."""
    base = rng.uniform(0.08, 0.3)
    parts = []
    for _ in range(int(rng.integers(3, 9))):
        at = rng.uniform(-0.5, 0.5, 3) * base + np.array([0, 0, base * 0.8])
        if rng.random() < 0.5:
            shape = m.box(*(base * rng.uniform(0.2, 0.9, 3)))
        else:
            shape = m.cylinder(base * rng.uniform(0.08, 0.35), base * rng.uniform(0.3, 0.9), segments=14)
            shape = shape.transformed(m.rotation("x", float(rng.choice([0, np.pi / 2]))))
        kind = str(rng.choice(["metal", "plastic"]))
        parts.append(Part(shape.transformed(m.translation(*at)), random_material(rng, kind)))
    lowest = min(float(p.mesh.triangles[..., 2].min()) for p in parts)
    return tuple(Part(p.mesh.transformed(m.translation(0, 0, -lowest)), p.material) for p in parts)


def fabric(rng: Rng) -> Parts:
    """A rumpled cloth or bag lying on a surface."""
    n = 14
    u, v = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n))
    z = np.zeros((n, n))
    for _ in range(6):
        a, b, c = rng.normal(0, 2.2, 3)
        z += 0.12 * np.sin(a * u + b * v + c)
    z = (z - z.min()) * (1.15 - np.maximum(abs(u), abs(v)))
    s = rng.uniform(0.1, 0.4)
    points = np.stack([u * s, v * s * rng.uniform(0.6, 1.2), z * s + 0.004], axis=-1)
    return (Part(m.grid(points), random_material(rng, "cloth")),)
