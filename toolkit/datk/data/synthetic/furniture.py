"""Furniture and fittings of rooms. Standing on z = 0, metres."""

from __future__ import annotations

import numpy as np

from datk.data.synthetic import mesh as m
from datk.data.synthetic.materials import glass, lamp, mirror, random_material
from datk.data.synthetic.objects import Part, Parts, Rng


def table(rng: Rng) -> Parts:
    """A table with four legs or a centre post; top of wood, stone or glass."""
    w, d, h = rng.uniform(0.7, 1.8), rng.uniform(0.5, 1.0), rng.uniform(0.4, 0.8)
    material = random_material(rng, str(rng.choice(["wood", "metal", "plastic"])))
    pane = rng.random() < 0.12
    top = Part(m.box(w, d, 0.03, (0, 0, h - 0.015)), glass(rng) if pane else random_material(rng, "wood"))
    x, y = w / 2 - 0.06, d / 2 - 0.06
    t = rng.uniform(0.025, 0.07)
    legs = m.boxes(np.array([[a, b, h / 2 - 0.02] for a in (-x, x) for b in (-y, y)]), np.array([[t, t, h - 0.04]]))
    return top, Part(legs, material)


def chair(rng: Rng) -> Parts:
    """A chair with thin legs and a slatted, solid or barred back."""
    w, h = rng.uniform(0.38, 0.55), rng.uniform(0.4, 0.5)
    back = rng.uniform(0.35, 0.65)
    t = rng.uniform(0.012, 0.025)
    a = w / 2 - t
    frame = random_material(rng, str(rng.choice(["wood", "metal", "plastic"])))
    feet = np.array([[x * 1.12, y * 1.12, 0] for x in (-a, a) for y in (-a, a)])
    tops = np.array([[x, y, h] for x in (-a, a) for y in (-a, a)])
    lean = rng.uniform(0, 0.15)
    posts = np.array([[-a, a, h], [a, a, h]])
    post_tops = posts + np.array([0, lean, back])
    bars = [m.tubes(feet, tops, t), m.tubes(posts, post_tops, t)]
    style = rng.integers(3)
    if style == 0:
        k = np.linspace(0.3, 1, int(rng.integers(2, 6)))[:, None]
        bars.append(
            m.tubes(posts[0] + k * (post_tops[0] - posts[0]), posts[1] + k * (post_tops[1] - posts[1]), t * 0.9)
        )
    elif style == 1:
        k = np.linspace(0, 1, int(rng.integers(4, 9)))[:, None]
        low, high = posts[0] + k * (posts[1] - posts[0]), post_tops[0] + k * (post_tops[1] - post_tops[0])
        bars += [m.tubes(low, high, t * 0.6), m.tubes(post_tops[:1], post_tops[1:], t)]
    parts = [Part(m.merge(bars), frame)]
    if style == 2:
        corners = np.array([posts[0] + [0, 0, 0.1], posts[1] + [0, 0, 0.1], post_tops[1], post_tops[0]])
        parts.append(Part(m.quad(corners), random_material(rng, "cloth")))
    if rng.random() < 0.3:
        arms = m.tubes(
            np.array([[-a, -a, h + 0.22], [a, -a, h + 0.22], [-a, -a, h], [a, -a, h]]),
            np.array([[-a, a, h + 0.24], [a, a, h + 0.24], [-a, -a, h + 0.22], [a, -a, h + 0.22]]),
            t * 1.3,
        )
        parts.append(Part(arms, frame))
    seat = m.box(w, w, 0.04, (0, 0, h))
    return (*parts, Part(seat, random_material(rng, str(rng.choice(["wood", "cloth", "plastic"])))))


def garden_chair(rng: Rng) -> Parts:
    """A low slatted armchair with a leaning back."""
    w = rng.uniform(0.5, 0.65)
    n = int(rng.integers(4, 8))
    y = np.linspace(-0.25, 0.25, n)
    seat = m.boxes(np.stack([0 * y, y, 0.36 - 0.15 * y], -1), np.array([[w, 0.5 / n * 0.75, 0.02]]))
    x = np.linspace(-w / 2 + 0.05, w / 2 - 0.05, n)
    slats = [
        m.box(w / n * 0.75, 0.02, 0.75 + 0.1 * np.cos(i / (n - 1) * np.pi - np.pi / 2)).transformed(
            m.translation(xi, 0.38, 0.68) @ m.rotation("x", -0.35)
        )
        for i, xi in enumerate(x)
    ]
    legs = m.boxes(
        np.array([[sx * w / 2, sy, 0.3] for sx in (-1, 1) for sy in (-0.28, 0.3)]), np.array([[0.04, 0.1, 0.6]])
    )
    arms = m.boxes(np.array([[sx * w / 2, 0.02, 0.6] for sx in (-1, 1)]), np.array([[0.13, 0.75, 0.025]]))
    return (Part(m.merge([seat, *slats, legs, arms]), random_material(rng, "wood")),)


def shelf(rng: Rng) -> Parts:
    """An open bookcase filled with boards, books and small boxes."""
    w, d, h = rng.uniform(0.6, 1.6), rng.uniform(0.22, 0.4), rng.uniform(0.8, 2.2)
    boards = int(rng.integers(3, 6))
    z = np.linspace(0.03, h, boards)
    wood = random_material(rng, "wood")
    body = [m.boxes(np.stack([0 * z, 0 * z, z], -1), np.array([[w, d, 0.025]]))]
    body.append(m.boxes(np.array([[-w / 2, 0, h / 2], [w / 2, 0, h / 2]]), np.array([[0.025, d, h]])))
    parts = []
    if rng.random() < 0.7:
        body.append(m.box(w, 0.015, h, (0, d / 2, h / 2)))
    parts.append(Part(m.merge(body), wood))
    gap = h / (boards - 1)
    for level in z[:-1]:
        x = -w / 2 + 0.03
        while x < w / 2 - 0.12:
            t = rng.uniform(0.02, 0.14)
            if rng.random() < 0.75:
                tall = gap * rng.uniform(0.4, 0.85)
                deep = d * rng.uniform(0.5, 0.9)
                y = rng.uniform(-0.5, 0.5) * (d - deep)
                shape = m.box(t * 0.93, deep, tall, (x + t / 2, y, level + tall / 2 + 0.0125))
                parts.append(
                    Part(shape, random_material(rng, str(rng.choice(["paper", "paper", "picture", "plastic"]))))
                )
            x += t
    return tuple(parts)


def cabinet(rng: Rng) -> Parts:
    """A cupboard, chest or counter with doors and knobs."""
    w, d, h = rng.uniform(0.4, 1.6), rng.uniform(0.35, 0.65), rng.uniform(0.5, 2.0)
    n = max(1, int(w / rng.uniform(0.3, 0.6)))
    x = (np.arange(n) + 0.5) / n * w - w / 2
    doors = m.boxes(np.stack([x, 0 * x - d / 2 - 0.01, 0 * x + h / 2], -1), np.array([[w / n * 0.92, 0.02, h * 0.92]]))
    knob = np.stack([x + w / n * 0.36, 0 * x - d / 2 - 0.03, 0 * x + h * 0.55], -1)
    return (
        Part(m.box(w, d, h, (0, 0, h / 2)), random_material(rng, "wood")),
        Part(doors, random_material(rng, "wood")),
        Part(m.boxes(knob, np.array([[0.02, 0.04, 0.1]])), random_material(rng, "metal")),
    )


def sofa(rng: Rng) -> Parts:
    """A sofa, bench or armchair with cushions."""
    w, d = rng.uniform(0.8, 2.2), rng.uniform(0.75, 0.95)
    cloth = random_material(rng, "cloth")
    body = m.boxes(
        np.array([[0, 0, 0.22], [0, d / 2 - 0.1, 0.5], [-w / 2, 0, 0.33], [w / 2, 0, 0.33]]),
        np.array([[w, d, 0.35], [w, 0.22, 0.7], [0.18, d, 0.6], [0.18, d, 0.6]]),
    )
    parts = [Part(body, cloth)]
    for _ in range(int(rng.integers(0, 4))):
        cushion = m.sphere(1, segments=12, rings=8).transformed(
            m.translation(rng.uniform(-0.35, 0.35) * w, 0.1, 0.58) @ m.rotation("x", -0.4) @ m.scaling(0.24, 0.09, 0.2)
        )
        parts.append(Part(cushion, random_material(rng, "cloth")))
    return tuple(parts)


def bed(rng: Rng) -> Parts:
    """A bed with a blanket and pillows."""
    w, length = rng.uniform(0.9, 1.8), 2.0
    frame = m.boxes(np.array([[0, 0, 0.2], [0, length / 2, 0.5]]), np.array([[w, length, 0.25], [w, 0.06, 1.0]]))
    pillow = m.sphere(1, segments=12, rings=8).transformed(m.translation(0, 0.7, 0.52) @ m.scaling(0.3, 0.2, 0.1))
    return (
        Part(frame, random_material(rng, "wood")),
        Part(m.box(w * 0.98, length * 0.97, 0.2, (0, 0, 0.4)), random_material(rng, "cloth")),
        Part(pillow, random_material(rng, "cloth")),
    )


def monitor(rng: Rng) -> Parts:
    """A screen on a foot."""
    w = rng.uniform(0.4, 1.1)
    h = w * 0.58
    stand = m.boxes(np.array([[0, 0, 0.01], [0, 0.02, 0.1]]), np.array([[w * 0.4, 0.2, 0.02], [0.05, 0.03, 0.2]]))
    plastic = random_material(rng, "plastic")
    screen = m.box(w * 0.95, 0.01, h * 0.92, (0, -0.025, 0.14 + h / 2))
    return Part(m.merge([stand, m.box(w, 0.04, h, (0, 0, 0.14 + h / 2))]), plastic), Part(
        screen, random_material(rng, "picture")
    )


def floor_lamp(rng: Rng) -> Parts:
    """A standing lamp with a shade."""
    h = rng.uniform(0.5, 1.8)
    r = rng.uniform(0.12, 0.28)
    foot = m.merge([m.cylinder(r * 0.7, 0.02), m.tubes(np.zeros((1, 3)), np.array([[0, 0, h]]), 0.012)])
    shade = m.lathe(np.array([[r, h - 0.1], [r * rng.uniform(0.4, 1.0), h + 0.2]]), segments=18)
    return Part(foot, random_material(rng, "metal")), Part(shade, lamp(rng))


def hanging_lamp(rng: Rng) -> Parts:
    """A lamp on a cord; the origin is where it hangs from (z = 0 is the ceiling)."""
    drop, r = rng.uniform(0.4, 1.3), rng.uniform(0.1, 0.3)
    cord = m.tubes(np.array([[0, 0, -drop]]), np.zeros((1, 3)), 0.008, segments=5)
    shade = m.lathe(np.array([[r, -drop - 0.18], [r * rng.uniform(0.1, 0.9), -drop]]), segments=18)
    return Part(cord, random_material(rng, "asphalt")), Part(
        shade, lamp(rng) if rng.random() < 0.5 else random_material(rng, "metal")
    )


def framed_picture(rng: Rng) -> Parts:
    """A picture in a frame, its back on the plane y = 0, centred on the origin."""
    w, h = rng.uniform(0.3, 1.2, 2)
    edge = rng.uniform(0.02, 0.06)
    frame = m.boxes(
        np.array([[0, -0.02, h / 2], [0, -0.02, -h / 2], [w / 2, -0.02, 0], [-w / 2, -0.02, 0]]),
        np.array([[w + edge, 0.04, edge], [w + edge, 0.04, edge], [edge, 0.04, h + edge], [edge, 0.04, h + edge]]),
    )
    picture = m.box(w, 0.02, h, (0, -0.012, 0))
    return Part(frame, random_material(rng, "wood")), Part(picture, random_material(rng, "picture"))


def wall_mirror(rng: Rng) -> Parts:
    """A flat mirror in a frame, its back on the plane y = 0, centred on the origin."""
    w, h = rng.uniform(0.5, 1.4), rng.uniform(0.7, 1.7)
    frame = m.boxes(
        np.array([[0, -0.02, h / 2], [0, -0.02, -h / 2], [w / 2, -0.02, 0], [-w / 2, -0.02, 0]]),
        np.array([[w + 0.05, 0.05, 0.05], [w + 0.05, 0.05, 0.05], [0.05, 0.05, h + 0.05], [0.05, 0.05, h + 0.05]]),
    )
    y = -0.025
    plate = m.quad(np.array([[-w / 2, y, -h / 2], [w / 2, y, -h / 2], [w / 2, y, h / 2], [-w / 2, y, h / 2]]))
    return Part(frame, random_material(rng, "wood")), Part(plate, mirror(rng))


def glass_screen(rng: Rng) -> Parts:
    """A standing glass pane in thin posts (partition, shower, shop window)."""
    w, h = rng.uniform(0.6, 2.0), rng.uniform(0.8, 2.0)
    posts = m.boxes(
        np.array([[-w / 2, 0, h / 2], [w / 2, 0, h / 2], [0, 0, 0.02], [0, 0, h]]),
        np.array([[0.04, 0.04, h], [0.04, 0.04, h], [w, 0.05, 0.04], [w, 0.04, 0.03]]),
    )
    pane = m.quad(np.array([[-w / 2, 0, 0.02], [w / 2, 0, 0.02], [w / 2, 0, h], [-w / 2, 0, h]]))
    return Part(posts, random_material(rng, "metal")), Part(pane, glass(rng))


def open_bin(rng: Rng, *, width: float, depth: float, height: float) -> Parts:
    """A box open at the top, walls 1.5 cm thick or slatted, standing on z = 0."""
    t = 0.015
    if rng.random() < 0.3:  # slatted crate
        n = int(rng.integers(3, 6))
        z = (np.arange(n) + 0.5) / n * height
        slat = height / n * 0.6
        zero = 0 * z
        walls = m.merge(
            [m.boxes(np.stack([zero, zero + s * depth / 2, z], -1), np.array([[width, t, slat]])) for s in (-1, 1)]
            + [m.boxes(np.stack([zero + s * width / 2, zero, z], -1), np.array([[t, depth, slat]])) for s in (-1, 1)]
        )
    else:
        walls = m.boxes(
            np.array(
                [
                    [0, -depth / 2, height / 2],
                    [0, depth / 2, height / 2],
                    [-width / 2, 0, height / 2],
                    [width / 2, 0, height / 2],
                ]
            ),
            np.array([[width, t, height], [width, t, height], [t, depth, height], [t, depth, height]]),
        )
    shell = random_material(rng, str(rng.choice(["plastic", "metal", "wood"])))
    floor = random_material(rng, str(rng.choice(["plastic", "metal", "wood", "cloth"])))
    return Part(walls, shell), Part(m.box(width, depth, t, (0, 0, t / 2)), floor)
