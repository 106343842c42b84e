"""Families of streets and open country. Standing on z = 0, metres."""

from __future__ import annotations

import numpy as np

from datk.data.synthetic import mesh as m
from datk.data.synthetic.materials import glass, random_material
from datk.data.synthetic.objects import Part, Parts, Rng
from datk.data.synthetic.thin import _leaves


def tree(rng: Rng) -> Parts:
    """A broad-leaved tree: trunk, branches, crown of leaf blades about lumpy masses."""
    h = rng.uniform(3.5, 9)
    crown = h * rng.uniform(0.28, 0.42)
    trunk = m.cylinder(h * 0.03, h * 0.7, top_radius=h * 0.015, segments=9)
    n = int(rng.integers(5, 9))
    centres = rng.normal(0, crown * 0.5, (n, 3)) * np.array([1, 1, 0.7]) + np.array([0, 0, h * 0.75])
    bark, leaf = random_material(rng, "bark"), random_material(rng, "leaf")
    branches = m.tubes(np.tile([[0, 0, h * 0.45]], (n, 1)), centres, h * 0.01, segments=5)
    masses = []
    if rng.random() < 0.75:
        for c in centres:
            lump = m.sphere(1, segments=9, rings=6).triangles
            wave = 1 + 0.22 * np.sin(lump @ rng.normal(0, 4, 3) + rng.uniform(0, 6))[..., None]
            masses.append(m.flat(lump * wave * crown * rng.uniform(0.35, 0.6) * np.array([1, 1, 0.8]) + c))
    k = 22 * n
    direction = rng.normal(0, 1, (k, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    roots = centres[rng.integers(n, size=k)] + direction * crown * rng.uniform(0.3, 0.6, (k, 1))
    length = crown * rng.uniform(0.1, 0.28, k)
    tips = roots + (direction + rng.normal(0, 0.5, (k, 3))) * length[:, None]
    masses.append(_leaves(rng, roots, tips, length * 0.6, length * 0.3, rows=2))
    return Part(m.merge([trunk, branches]), bark), Part(m.merge(masses), leaf)


def conifer(rng: Rng) -> Parts:
    """A fir of stacked ragged cones."""
    h = rng.uniform(3, 10)
    levels = int(rng.integers(4, 8))
    cones = []
    for i in range(levels):
        z = h * (0.15 + 0.8 * i / levels)
        r = h * 0.22 * (1 - 0.85 * i / levels)
        cone = m.lathe(np.array([[r, z], [0.0, z + h * 1.5 / levels * 0.8]]), segments=11).triangles
        cones.append(m.flat(cone * (1 + 0.06 * np.sin(cone @ rng.normal(0, 5, 3)))[..., None]))
    return Part(m.cylinder(h * 0.025, h * 0.5, segments=8), random_material(rng, "bark")), Part(
        m.merge(cones), random_material(rng, "leaf")
    )


def building(rng: Rng) -> Parts:
    """A house or block with windows, a door, sometimes a gable roof or balconies."""
    w, d = rng.uniform(5, 14), rng.uniform(5, 10)
    floors = int(rng.integers(1, 6))
    h = 3.0 * floors
    wall = random_material(rng, str(rng.choice(["facade", "wall", "stone"])))
    parts = [Part(m.box(w, d, h, (0, 0, h / 2)), wall)]
    n = max(2, int(w / rng.uniform(1.8, 3)))
    x = (np.arange(n) + 0.5) / n * w - w / 2
    z = np.arange(floors) * 3.0 + 1.7
    centres = np.array([[a, s * d / 2, b] for a in x for b in z for s in (-1, 1)])
    dark = random_material(rng, "asphalt")
    parts.append(Part(m.boxes(centres, np.array([[w / n * 0.5, 0.16, 1.4]])), random_material(rng, "wood")))
    parts.append(
        Part(m.boxes(centres, np.array([[w / n * 0.43, 0.2, 1.25]])), glass(rng) if rng.random() < 0.25 else dark)
    )
    side = np.array([[s * w / 2, b, c] for b in np.linspace(-0.3, 0.3, 2) * d for c in z for s in (-1, 1)])
    parts.append(Part(m.boxes(side, np.array([[0.14, 1.0, 1.3]])), dark))
    if floors <= 3 and rng.random() < 0.7:
        top = h + rng.uniform(1, 3)
        e = 0.4
        a, b, c, f = [-w / 2 - e, -d / 2 - e, h], [w / 2 + e, -d / 2 - e, h], [w / 2 + e, 0, top], [-w / 2 - e, 0, top]
        g, k = [w / 2 + e, d / 2 + e, h], [-w / 2 - e, d / 2 + e, h]
        gables = m.flat(np.array([[a, f, k], [b, g, c]], dtype=float))
        parts.append(
            Part(m.merge([m.quad(np.array([[a, b, c, f], [f, c, g, k]])), gables]), random_material(rng, "stone"))
        )
    elif rng.random() < 0.5:
        slabs = np.array([[0, -d / 2 - 0.5, b - 1.1] for b in z[1:]]).reshape(-1, 3)
        if len(slabs):
            parts.append(Part(m.boxes(slabs, np.array([[w * 0.7, 1.0, 0.12]])), random_material(rng, "stone")))
    return tuple(parts)


def car(rng: Rng) -> Parts:
    """A car, van or lorry along x, with glass windows and wheels."""
    length, width, h = rng.uniform(3.6, 5.0), rng.uniform(1.6, 1.9), rng.uniform(1.35, 1.6)
    paint = random_material(rng, "plastic")
    if rng.random() < 0.25:
        h *= 1.5
        side = np.array([[-0.5, 0.2], [0.5, 0.2], [0.5, 0.6], [0.42, 1], [-0.5, 1]])
        cabin = np.array([[0.3, 0.62], [0.485, 0.62], [0.44, 0.9], [0.3, 0.9]])
    else:
        side = np.array(
            [[-0.5, 0.2], [0.5, 0.2], [0.5, 0.45], [0.28, 0.56], [0.12, 0.97], [-0.28, 1], [-0.46, 0.6], [-0.5, 0.5]]
        )
        cabin = np.array([[-0.36, 0.62], [0.2, 0.62], [0.09, 0.92], [-0.25, 0.94]])
    scale = np.array([length, h])
    body = m.extrude(side * scale, width)
    window = m.extrude(cabin * scale, width * 1.02)
    tyres = [
        m.cylinder(0.32, 0.22, segments=14).transformed(
            m.translation(x * length, y * width / 2 + 0.11, 0.32) @ m.rotation("x", np.pi / 2)
        )
        for x in (-0.32, 0.32)
        for y in (-1, 1)
    ]
    lights = m.boxes(
        np.array([[x, y, 0.4 * h] for x in (-length / 2, length / 2) for y in (-width * 0.35, width * 0.35)]),
        np.array([[0.06, 0.25, 0.14]]),
    )
    return (
        Part(body, paint),
        Part(window, glass(rng) if rng.random() < 0.5 else random_material(rng, "asphalt")),
        Part(m.merge(tyres), random_material(rng, "asphalt")),
        Part(lights, random_material(rng, "paper")),
    )


def rock(rng: Rng) -> Parts:
    """A boulder, faceted."""
    base = m.sphere(1, segments=12, rings=8).triangles
    wave = np.ones(base.shape[:-1])
    for _ in range(6):
        wave += 0.12 * np.sin(base @ rng.normal(0, 2.5, 3) + rng.uniform(0, 6))
    size = rng.uniform(0.2, 1.4) * rng.uniform(0.6, 1.3, 3)
    return (
        Part(m.flat(base * wave[..., None] * size + np.array([0, 0, 0.3 * size[2]])), random_material(rng, "stone")),
    )


def stairs(rng: Rng) -> Parts:
    """A flight of steps rising along y."""
    n, w = int(rng.integers(4, 10)), rng.uniform(1.2, 3)
    i = np.arange(n)
    centres = np.stack([0 * i, 0.3 * i, 0.085 * (i + 1)], -1)
    sizes = np.stack([0 * i + w, 0 * i + 0.31, 0.17 * (i + 1)], -1)
    return (Part(m.boxes(centres, sizes), random_material(rng, str(rng.choice(["stone", "wood"])))),)


def bush(rng: Rng) -> Parts:
    """A round bush of leaf blades."""
    k = int(rng.integers(120, 320))
    s = rng.uniform(0.4, 1.2)
    direction = rng.normal(0, 1, (k, 3))
    direction[:, 2] = np.abs(direction[:, 2])
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    roots = direction * s * rng.uniform(0.2, 0.9, (k, 1))
    length = s * rng.uniform(0.12, 0.35, k)
    tips = roots + (direction + rng.normal(0, 0.6, (k, 3))) * length[:, None]
    core = m.sphere(s * 0.6, segments=9, rings=6)
    leaf = random_material(rng, "leaf")
    return (Part(m.merge([_leaves(rng, roots, tips, length * 0.5, length * 0.2, rows=2), core]), leaf),)
