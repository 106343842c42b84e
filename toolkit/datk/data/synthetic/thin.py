"""Thin and perforated families: what depth nets blur and edge devices lose first. Standing on z = 0, metres."""

from __future__ import annotations

import numpy as np

from datk.data.synthetic import mesh as m
from datk.data.synthetic.materials import random_material
from datk.data.synthetic.objects import Part, Parts, Rng


def fence(rng: Rng) -> Parts:
    """A picket or bar fence 2-4 m long."""
    length, height = rng.uniform(2, 4), rng.uniform(0.7, 1.6)
    n = int(length / rng.uniform(0.09, 0.25))
    x = np.linspace(-length / 2, length / 2, n)
    material = random_material(rng, str(rng.choice(["wood", "metal"])))
    rails_z = np.array([0.2, 0.85]) * height
    rails = m.boxes(np.stack([np.zeros(2), np.zeros(2), rails_z], -1), np.array([[length, 0.03, 0.05]]))
    if rng.random() < 0.5:
        width = rng.uniform(0.02, 0.08)
        pickets = m.boxes(
            np.stack([x, np.full(n, 0.02), np.full(n, height / 2)], -1), np.array([[width, 0.02, height]])
        )
    else:
        base = np.stack([x, np.zeros(n), np.zeros(n)], -1)
        pickets = m.tubes(base, base + np.array([0, 0, height]), rng.uniform(0.006, 0.016))
    return (Part(m.merge([rails, pickets]), material),)


def grille(rng: Rng) -> Parts:
    """A square or diamond wire grid in a frame."""
    w, h = rng.uniform(0.5, 1.8), rng.uniform(0.5, 1.5)
    pitch = rng.uniform(0.05, 0.16)
    wire = rng.uniform(0.003, 0.01)
    xs, zs = np.arange(-w / 2, w / 2 + 1e-9, pitch), np.arange(0, h + 1e-9, pitch)
    upright = m.tubes(np.stack([xs, 0 * xs, 0 * xs], -1), np.stack([xs, 0 * xs, 0 * xs + h], -1), wire, segments=4)
    level = m.tubes(
        np.stack([0 * zs - w / 2, 0 * zs, zs], -1), np.stack([0 * zs + w / 2, 0 * zs, zs], -1), wire, segments=4
    )
    frame = m.boxes(
        np.array([[0, 0, 0.015], [0, 0, h], [-w / 2, 0, h / 2], [w / 2, 0, h / 2]]),
        np.array([[w, 0.03, 0.03], [w, 0.03, 0.03], [0.03, 0.03, h], [0.03, 0.03, h]]),
    )
    metal = random_material(rng, "metal")
    return Part(m.merge([upright, level]), metal), Part(frame, random_material(rng, "any"))


def perforated_plate(rng: Rng) -> Parts:
    """A plate with a lattice of rectangular holes (peg board, drain, pallet)."""
    w, h = rng.uniform(0.4, 1.4), rng.uniform(0.4, 1.2)
    n, k = int(rng.integers(3, 9)), int(rng.integers(3, 9))
    bar = rng.uniform(0.25, 0.6)
    xs, zs = np.linspace(-w / 2, w / 2, n + 1), np.linspace(0, h, k + 1)
    upright = m.boxes(np.stack([xs, 0 * xs, 0 * xs + h / 2], -1), np.array([[w / n * bar, 0.02, h]]))
    level = m.boxes(np.stack([0 * zs, 0 * zs + 0.001, zs], -1), np.array([[w, 0.02, h / k * bar]]))
    return (Part(m.merge([upright, level]), random_material(rng, "any")),)


def wheel(rng: Rng) -> Parts:
    """A spoked wheel standing upright, 0.2-0.35 m in radius."""
    r = rng.uniform(0.2, 0.35)
    return tuple(Part(p.mesh.transformed(m.translation(0, 0, r * 1.04)), p.material) for p in _wheel_about_hub(rng, r))


def _wheel_about_hub(rng: Rng, r: float) -> Parts:
    n = int(rng.integers(6, 26))
    a = np.linspace(0, 2 * np.pi, n, endpoint=False)
    rim = np.stack([r * np.cos(a), 0 * a, r * np.sin(a)], -1)
    hub = np.stack([0.03 * np.cos(a + 1), 0.03 * (-1) ** np.arange(n), 0.03 * np.sin(a + 1)], -1)
    spokes = m.tubes(hub, rim, rng.uniform(0.002, 0.006), segments=4)
    axle = m.cylinder(0.02, 0.1).transformed(m.rotation("x", np.pi / 2) @ m.translation(0, 0, -0.05))
    metal = random_material(rng, "metal")
    return Part(m.merge([spokes, axle]), metal), Part(m.ring(r, r * 0.055, sides=6), random_material(rng, "asphalt"))


def bicycle(rng: Rng) -> Parts:
    """Two spoked wheels, a tube frame, saddle and handlebar."""
    r = 0.33
    wheels: list[Part] = []
    for x in (-0.52, 0.52):
        wheels += [Part(p.mesh.transformed(m.translation(x, 0, r)), p.material) for p in _wheel_about_hub(rng, r)]
    rear, front, crank = np.array([-0.52, 0, r]), np.array([0.52, 0, r]), np.array([-0.08, 0, 0.28])
    seat, head = np.array([-0.22, 0, 0.82]), np.array([0.36, 0, 0.8])
    pairs = np.array([[rear, crank], [rear, seat], [crank, seat], [crank, head], [seat, head], [head, front]])
    frame = m.tubes(pairs[:, 0], pairs[:, 1], 0.017)
    bar = m.tubes(
        np.array([[0.33, -0.28, 0.98], [0.36, 0, 0.8]]), np.array([[0.33, 0.28, 0.98], [0.33, 0, 0.98]]), 0.014
    )
    saddle = m.box(0.26, 0.14, 0.05, (-0.24, 0, 0.9))
    return (
        *wheels,
        Part(m.merge([frame, bar]), random_material(rng, "plastic")),
        Part(saddle, random_material(rng, "cloth")),
    )


def motorcycle(rng: Rng) -> Parts:
    """Two fat wheels, engine, tank, fork and exhaust."""
    r = 0.3
    parts: list[Part] = []
    for x in (-0.68, 0.7):
        tyre = m.ring(r, 0.065, sides=8).transformed(m.translation(x, 0, r + 0.06))
        disc = m.cylinder(0.16, 0.03).transformed(m.translation(x, 0.05, r + 0.06) @ m.rotation("x", np.pi / 2))
        n = 7
        a = np.linspace(0, 2 * np.pi, n, endpoint=False)
        centre = np.array([x, 0, r + 0.06])
        spokes = m.tubes(
            np.repeat(centre[None], n, 0), centre + np.stack([r * np.cos(a), 0 * a, r * np.sin(a)], -1), 0.015
        )
        parts += [
            Part(tyre, random_material(rng, "asphalt")),
            Part(m.merge([disc, spokes]), random_material(rng, "metal")),
        ]
    fork = m.tubes(
        np.array([[0.7, y, 0.36] for y in (-0.1, 0.1)]), np.array([[0.42, y, 1.0] for y in (-0.1, 0.1)]), 0.025
    )
    bar = m.tubes(np.array([[0.38, -0.36, 1.06]]), np.array([[0.38, 0.36, 1.06]]), 0.016)
    pipe = m.tubes(
        np.array([[-0.1, 0.16, 0.25], [0.1, 0.16, 0.5]]), np.array([[-0.8, 0.2, 0.33], [-0.1, 0.16, 0.25]]), 0.045
    )
    engine = m.boxes(
        np.array([[0, 0, 0.42], [0.05, 0, 0.6], [0, 0, 0.25]]),
        np.array([[0.4, 0.3, 0.26], [0.25, 0.24, 0.2], [0.5, 0.2, 0.12]]),
    )
    tank = m.sphere(1, segments=14, rings=9).transformed(m.translation(0.15, 0, 0.82) @ m.scaling(0.3, 0.16, 0.14))
    seat = m.sphere(1, segments=14, rings=9).transformed(m.translation(-0.4, 0, 0.8) @ m.scaling(0.4, 0.15, 0.07))
    lamp = m.sphere(0.1).transformed(m.translation(0.52, 0, 0.92))
    metal, paint = random_material(rng, "metal"), random_material(rng, "plastic")
    return (
        *parts,
        Part(m.merge([fork, bar, pipe, engine]), metal),
        Part(m.merge([tank, lamp]), paint),
        Part(seat, random_material(rng, "cloth")),
    )


def railing(rng: Rng) -> Parts:
    """A handrail on thin posts."""
    length, h = rng.uniform(2, 5), rng.uniform(0.9, 1.2)
    n = max(3, int(length / rng.uniform(0.4, 1.2)))
    x = np.linspace(-length / 2, length / 2, n)
    base = np.stack([x, 0 * x, 0 * x], -1)
    z = np.linspace(0.2, 1.0, int(rng.integers(2, 6))) * h
    ends = np.stack([0 * z - length / 2, 0 * z, z], -1)
    bars = m.tubes(ends, ends + np.array([length, 0, 0]), rng.uniform(0.01, 0.03))
    return (Part(m.merge([m.tubes(base, base + np.array([0, 0, h]), 0.02), bars]), random_material(rng, "metal")),)


def ladder(rng: Rng) -> Parts:
    """A ladder leaning a little."""
    h, w = rng.uniform(1.5, 3.5), rng.uniform(0.35, 0.5)
    z = np.arange(0.25, h, 0.28)
    rungs = m.tubes(np.stack([0 * z - w / 2, 0 * z, z], -1), np.stack([0 * z + w / 2, 0 * z, z], -1), 0.014)
    rails = m.boxes(np.array([[-w / 2, 0, h / 2], [w / 2, 0, h / 2]]), np.array([[0.04, 0.06, h]]))
    lean = m.rotation("x", rng.uniform(0.0, 0.35))
    return (Part(m.merge([rungs, rails]).transformed(lean), random_material(rng, str(rng.choice(["wood", "metal"])))),)


def cables(rng: Rng) -> Parts:
    """Poles joined by sagging cables."""
    n, gap, h = int(rng.integers(2, 5)), rng.uniform(3, 9), rng.uniform(3.5, 7)
    x = (np.arange(n) - (n - 1) / 2) * gap
    base = np.stack([x, 0 * x, 0 * x], -1)
    poles = m.tubes(base, base + np.array([0, 0, h]), rng.uniform(0.05, 0.11), segments=8)
    arms = m.tubes(base + np.array([0, -0.5, h * 0.93]), base + np.array([0, 0.5, h * 0.93]), 0.03)
    wires = []
    t = np.linspace(0, 1, 8)
    for i in range(n - 1):
        for y in (-0.45, 0.45):
            sag = h * 0.93 - 4 * 0.08 * gap * t * (1 - t)
            points = np.stack([x[i] + t * gap, np.full(8, y), sag], -1)
            wires.append(m.path_tube(points, 0.012, segments=4))
    return Part(m.merge([poles, arms]), random_material(rng, "wood")), Part(
        m.merge(wires), random_material(rng, "asphalt")
    )


def lamp_post(rng: Rng) -> Parts:
    """A street lamp or sign post."""
    h = rng.uniform(2.2, 6)
    pole = m.tubes(np.zeros((1, 3)), np.array([[0, 0, h]]), rng.uniform(0.03, 0.07), segments=8)
    if rng.random() < 0.5:
        sign = m.cylinder(0.3, 0.02, segments=int(rng.choice([3, 4, 8, 20])))
        top = sign.transformed(m.translation(0, 0.06, h * 0.9) @ m.rotation("x", np.pi / 2))
        return Part(pole, random_material(rng, "metal")), Part(top, random_material(rng, "plastic"))
    arm = m.merge(
        [m.tubes(np.array([[0, 0, h]]), np.array([[0.9, 0, h + 0.2]]), 0.03), m.box(0.5, 0.2, 0.1, (1.0, 0, h + 0.2))]
    )
    return (Part(m.merge([pole, arm]), random_material(rng, "metal")),)


def _leaves(
    rng: Rng, roots: np.ndarray, tips: np.ndarray, width: np.ndarray, droop: np.ndarray, rows: int = 4
) -> m.Mesh:
    """Bent, pointed leaf blades, vectorised over N.  roots, tips: (N, 3); width, droop: (N,) metres."""
    n = len(roots)
    t = np.linspace(0, 1, rows + 1)
    spine = roots[:, None] + t[None, :, None] * (tips - roots)[:, None]
    spine[..., 2] -= droop[:, None] * t[None] ** 2
    axis = tips - roots
    side = np.cross(axis, rng.normal(0, 0.25, (n, 3)) + np.array([0.0, 0.0, 1.0]))
    side /= np.maximum(np.linalg.norm(side, axis=-1, keepdims=True), 1e-9)
    shape = (np.sin(np.pi * (0.12 + 0.88 * t) ** 0.8)).clip(0.02)
    half = 0.5 * width[:, None, None] * shape[None, :, None] * side[:, None]
    left, right = spine - half, spine + half
    fold = np.array([0, 0, 0.18]) * width[:, None, None] * shape[None, :, None]
    strips = []
    for a, b in ((left + fold, spine), (spine, right + fold)):
        first = np.stack([a[:, :-1], b[:, :-1], b[:, 1:]], 2)
        second = np.stack([a[:, :-1], b[:, 1:], a[:, 1:]], 2)
        strips += [first.reshape(-1, 3, 3), second.reshape(-1, 3, 3)]
    return m.flat(np.concatenate(strips))


def rosette(rng: Rng) -> Parts:
    """A plant of long leaves from one root (grass tuft, agave, aloe), often in a pot."""
    n = int(rng.integers(10, 42))
    s = rng.uniform(0.15, 0.6)
    a = rng.uniform(0, 2 * np.pi, n)
    rise = rng.uniform(0.15, 1.4, n)
    length = s * rng.uniform(0.6, 1.2, n)
    direction = np.stack([np.cos(a) * np.cos(rise), np.sin(a) * np.cos(rise), np.sin(rise)], -1)
    pot_height = rng.uniform(0.1, 0.3) if rng.random() < 0.6 else 0.0
    roots = direction * 0.02 + np.array([0, 0, pot_height])
    width = length * rng.uniform(0.06, 0.3)
    leaves = _leaves(rng, roots, roots + direction * length[:, None], width, length * rng.uniform(0, 0.6, n))
    parts = [Part(leaves, random_material(rng, "leaf"))]
    if pot_height:
        r = rng.uniform(0.07, 0.16)
        pot = np.array(
            [
                [0, 0],
                [r * 0.75, 0],
                [r, pot_height],
                [r * 0.9, pot_height],
                [r * 0.88, pot_height * 0.9],
                [0, pot_height * 0.9],
            ]
        )
        parts.append(Part(m.lathe(pot, segments=18), random_material(rng, str(rng.choice(["stone", "plastic"])))))
    return tuple(parts)


def leafy_plant(rng: Rng) -> Parts:
    """Stems with broad leaves along them (house plant, bush, vine)."""
    stems = int(rng.integers(3, 9))
    s = rng.uniform(0.3, 1.0)
    roots, tips, branches = [], [], []
    for _ in range(stems):
        end = np.array([rng.normal(0, 0.35), rng.normal(0, 0.35), rng.uniform(0.6, 1.2)]) * s
        t = rng.uniform(0.25, 1.0, int(rng.integers(6, 16)))
        base = t[:, None] * end * np.array([1, 1, 1.0])
        direction = rng.normal(0, 1, (len(t), 3)) * np.array([1, 1, 0.5])
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        roots.append(base)
        tips.append(base + direction * s * rng.uniform(0.15, 0.35, (len(t), 1)))
        branches.append(end)
    root, tip = np.concatenate(roots), np.concatenate(tips)
    length = np.linalg.norm(tip - root, axis=-1)
    leaves = _leaves(rng, root, tip, length * rng.uniform(0.25, 0.7), length * rng.uniform(0, 0.5, len(length)))
    wood = m.tubes(np.zeros((stems, 3)), np.array(branches), 0.008 + 0.006 * s, segments=5)
    return Part(leaves, random_material(rng, "leaf")), Part(wood, random_material(rng, "bark"))


def bare_branches(rng: Rng) -> Parts:
    """A leafless shrub: three generations of forked twigs."""
    s = rng.uniform(0.6, 1.8)
    starts, ends, radii = [np.zeros(3)], [np.array([0, 0, 0.4 * s])], [0.025 * s]
    tips = [(np.array([0, 0, 0.4 * s]), np.array([0.0, 0.0, 1.0]))]
    for generation in range(3):
        fresh = []
        for at, heading in tips:
            for _ in range(3):
                turn = heading + rng.normal(0, 0.55, 3)
                turn /= np.linalg.norm(turn)
                end = at + turn * s * 0.4 * 0.75**generation * rng.uniform(0.6, 1.2)
                starts.append(at)
                ends.append(end)
                radii.append(0.016 * s * 0.55**generation)
                fresh.append((end, turn))
        tips = fresh
    return (Part(m.tubes(np.array(starts), np.array(ends), np.array(radii), segments=5), random_material(rng, "bark")),)
