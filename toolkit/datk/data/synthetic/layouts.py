"""Scene kinds: how objects, walls, ground, lights and the camera are put together.

"Lower in the image is nearer" must not be the only cue, so several kinds break it on purpose: views down into bins,
floating things, near branches and lamps at the top, big near things at the sides, walls met at an angle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from datk.data.synthetic import mesh as m
from datk.data.synthetic.families import FAMILIES, tagged
from datk.data.synthetic.furniture import open_bin
from datk.data.synthetic.materials import Colour, Material, glass, random_material
from datk.data.synthetic.objects import Part, Rng
from datk.data.synthetic.scene import Array, Camera, Environment, Instance, Light
from datk.data.synthetic.textures import layer_of


@dataclass
class Draft:
    """A scene in the making."""

    rng: Rng
    instances: list[Instance] = field(default_factory=list)
    camera: Camera | None = None
    lights: list[Light] = field(default_factory=list)
    environment: Environment = field(default_factory=Environment)
    clearance_m: float = 0.3

    def put(
        self,
        family: str,
        at: Array | tuple[float, float, float],
        *,
        yaw: float | None = None,
        scale: float = 1.0,
        tilt: Array | None = None,
        parts: tuple[Part, ...] | None = None,
    ) -> Instance:
        """Add one object of a family at a world point, turned about z (and tilted), scaled."""
        built = parts if parts is not None else FAMILIES[family].build(self.rng)
        angle = self.rng.uniform(0, 2 * np.pi) if yaw is None else yaw
        matrix = m.translation(*at) @ m.rotation("z", angle) @ m.scaling(scale, scale, scale)
        if tilt is not None:
            matrix = matrix @ tilt
        instance = Instance(family, built, matrix)
        self.instances.append(instance)
        return instance

    def fix(self, name: str, *parts: Part) -> None:
        """Add walls, ground or another thing that always stays, in world coordinates."""
        self.instances.append(Instance(name, parts, np.eye(4), fixed=True))

    def pick(self, *tags: str) -> str:
        """A random family with one of the tags."""
        return str(self.rng.choice(tagged(*tags)))

    def look(
        self,
        position: Array | list[float],
        target: Array | list[float],
        *,
        fov: tuple[float, float] = (40, 75),
        roll: float = 0.06,
    ) -> None:
        """Set the camera; vertical field of view in degrees drawn from `fov`, roll from a normal (radians)."""
        self.camera = Camera.looking_at(
            np.asarray(position, dtype=np.float64),
            np.asarray(target, dtype=np.float64),
            vertical_fov_rad=np.radians(self.rng.uniform(*fov)),
            roll_rad=float(self.rng.normal(0, roll)),
        )


def _grey(rng: Rng, low: float, high: float, *, warm: float = 0.0) -> Colour:
    level, shift = rng.uniform(low, high), rng.normal(warm, 0.06)
    return float(level * (1 + shift)), float(level), float(level * (1 - shift))


# --- surroundings ----------------------------------------------------------------------------------------------------


def daylight(d: Draft, *, focus: Array | tuple[float, float, float] = (0.0, 0.0, 0.0), extent_m: float = 25.0) -> None:
    """A sun, a weak second sun (bright sky side) and a sky with clouds, from clear noon to dull or dusk."""
    rng = d.rng
    dull = rng.random() < 0.35
    elevation, azimuth = rng.uniform(0.25, 1.35), rng.uniform(0, 2 * np.pi)
    direction = -np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    second = -np.array([-np.cos(azimuth + 0.7) * 0.6, -np.sin(azimuth + 0.7) * 0.6, 0.8])
    warm = 0.25 * np.exp(-3 * elevation)
    sun = 0.35 if dull else rng.uniform(1.6, 3.2)
    sun_colour = (float(sun * (1 + warm)), float(sun), float(sun * (1 - 1.6 * warm)))
    fill = rng.uniform(0.08, 0.3)
    spot = np.asarray(focus, dtype=np.float64)
    d.lights = [
        Light(direction, sun_colour, focus=spot, extent_m=extent_m),
        Light(second / np.linalg.norm(second), (fill * 0.9, fill, fill * 1.1), focus=spot, extent_m=extent_m),
    ]
    horizon = _grey(rng, 0.5, 1.0, warm=0.1 * warm) if dull else (0.65 + 2 * warm, 0.75 + 0.5 * warm, 0.85)
    zenith = _grey(rng, 0.35, 0.9) if dull else (0.12 + warm, rng.uniform(0.25, 0.45), rng.uniform(0.6, 0.95))
    d.environment = Environment(
        zenith=(float(zenith[0]), float(zenith[1]), float(zenith[2])),
        horizon=(float(horizon[0]), float(horizon[1]), float(horizon[2])),
        ground=_grey(rng, 0.08, 0.25, warm=0.05),
        ambient=float(rng.uniform(0.7, 1.1) if dull else rng.uniform(0.3, 0.65)),
        cloud_layer=layer_of("cloud", int(rng.integers(4))),
        cloud_amount=float(rng.uniform(0, 1)),
        fog_colour=(float(horizon[0] * 0.9), float(horizon[1] * 0.9), float(horizon[2] * 0.9)),
        fog_per_m=float(rng.exponential(0.02) if rng.random() < 0.35 else rng.uniform(0, 0.006)),
    )


def lamplight(d: Draft, *, centre: Array | tuple[float, float, float], spread: float, height: float) -> None:
    """Two lamps above `centre`, soft room light, hardly any haze."""
    rng = d.rng
    lights = []
    for power in (rng.uniform(2.5, 6), rng.uniform(0.6, 3)):
        position = np.asarray(centre) + np.array([*rng.uniform(-spread, spread, 2), height * rng.uniform(0.85, 0.98)])
        aim = np.asarray(centre) + np.array([*rng.uniform(-spread, spread, 2) * 0.6, 0.0]) - position
        warm = rng.uniform(-0.05, 0.25)
        lights.append(
            Light(
                aim / np.linalg.norm(aim),
                (float(power * (1 + warm)), float(power), float(power * (1 - warm))),
                position=position,
                cone_rad=float(rng.uniform(0.9, 1.2)),
                reach_m=float(max(1.0, height) * rng.uniform(0.6, 1.6)),
            )
        )
    d.lights = lights
    d.environment = Environment(
        zenith=_grey(rng, 0.4, 0.9, warm=0.05),
        horizon=_grey(rng, 0.3, 0.8, warm=0.05),
        ground=_grey(rng, 0.1, 0.4, warm=0.08),
        ambient=float(rng.uniform(0.15, 0.6)),
        cloud_layer=layer_of("cloud", int(rng.integers(4))),
        cloud_amount=0.3,
        fog_colour=_grey(rng, 0.3, 0.6),
        fog_per_m=float(rng.uniform(0, 0.01)),
    )


def room(d: Draft, width: float, depth: float, height: float, *, windows: bool = True) -> None:
    """Floor, ceiling and four walls about the origin; windows with or without panes, a door, pictures, a mirror."""
    rng = d.rng
    w, e = width / 2, depth / 2
    floor = m.quad(np.array([[-w, -e, 0], [w, -e, 0], [w, e, 0], [-w, e, 0]]))
    d.fix("floor", Part(floor, random_material(rng, "floor")))
    ceiling = floor.transformed(m.translation(0, 0, height))
    d.fix("ceiling", Part(ceiling, random_material(rng, "wall")))
    paint = random_material(rng, "wall")
    outside = False
    for turn, length, away in ((0, width, e), (1, depth, w), (2, width, e), (3, depth, w)):
        place = m.rotation("z", turn * np.pi / 2) @ m.translation(0, away, 0)
        material = paint if rng.random() < 0.7 else random_material(rng, "wall")
        holes = []
        if windows and rng.random() < 0.4 and length > 2:
            a = rng.uniform(-length / 2 + 0.3, length / 2 - 1.5)
            holes.append((a, a + rng.uniform(0.8, 1.2), rng.uniform(0.6, 1.0), height * rng.uniform(0.75, 0.9)))
        parts = [Part(_wall_with_holes(length, height, holes).transformed(place), material)]
        for low, high, sill, top in holes:
            outside = True
            bars = m.boxes(
                np.array(
                    [
                        [(low + high) / 2, 0, sill],
                        [(low + high) / 2, 0, top],
                        [low, 0, (sill + top) / 2],
                        [high, 0, (sill + top) / 2],
                        [(low + high) / 2, 0, (sill + top) / 2],
                    ]
                ),
                np.array(
                    [
                        [high - low, 0.1, 0.06],
                        [high - low, 0.1, 0.06],
                        [0.06, 0.1, top - sill],
                        [0.06, 0.1, top - sill],
                        [0.035, 0.05, top - sill],
                    ]
                ),
            )
            parts.append(Part(bars.transformed(place), random_material(rng, "wood")))
            if rng.random() < 0.75:
                pane = m.quad(np.array([[low, 0.01, sill], [high, 0.01, sill], [high, 0.01, top], [low, 0.01, top]]))
                parts.append(Part(pane.transformed(place), glass(rng)))
        if rng.random() < 0.6:
            skirting = m.box(length, 0.03, rng.uniform(0.06, 0.14), (0, -0.01, 0.05))
            parts.append(Part(skirting.transformed(place), random_material(rng, "wood")))
        d.fix("wall", *parts)
        if not holes:
            for _ in range(int(rng.integers(0, 4))):
                family = "wall_mirror" if rng.random() < 0.15 else "picture"
                x = rng.uniform(-0.42, 0.42) * length
                instance = Instance(
                    family, FAMILIES[family].build(rng), place @ m.translation(x, 0, height * rng.uniform(0.5, 0.65))
                )
                d.instances.append(instance)
            if rng.random() < 0.3:
                x = rng.uniform(-0.35, 0.35) * length
                door = m.boxes(np.array([[x, -0.02, 1.02]]), np.array([[0.85, 0.04, 2.04]]))
                d.fix("door", Part(door.transformed(place), random_material(rng, "wood")))
    if outside:
        daylight_like = rng.random() < 0.5
        for _ in range(3):
            angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(12, 25)
            d.put("building" if daylight_like else "tree", (far * np.cos(angle), far * np.sin(angle), -1.0))


def _wall_with_holes(length: float, height: float, holes: list[tuple[float, float, float, float]]) -> m.Mesh:
    """A wall in the plane y = 0 from the ground up, with at most one rectangular (low, high, sill, top) hole."""
    half = length / 2
    rectangles = [(-half, half, 0.0, height)]
    for low, high, sill, top in holes:
        rectangles = [(-half, low, 0, height), (high, half, 0, height), (low, high, 0, sill), (low, high, top, height)]
    return m.quad(np.array([[[a, 0, c], [b, 0, c], [b, 0, t], [a, 0, t]] for a, b, c, t in rectangles]))


def ground(
    d: Draft, *, hills: float, kind: str | None = None, extent_m: float = 140.0
) -> Callable[[float, float], float]:
    """A height field about the origin, finer near it; returns its height function."""
    rng = d.rng
    waves = [(rng.normal(0, 0.05, 2), rng.uniform(0, 6), rng.uniform(0.3, 1)) for _ in range(5)]
    small = [(rng.normal(0, 0.5, 2), rng.uniform(0, 6), 0.04) for _ in range(3)]
    rise = rng.uniform(0, 0.25) if rng.random() < 0.5 else 0.0

    def height(x: Array, y: Array) -> Array:
        z = np.zeros_like(x)
        for k, phase, amount in waves:
            z = z + hills * amount * (np.sin(k[0] * x + k[1] * y + phase) - np.sin(phase))
        for k, phase, amount in small:
            z = z + min(hills, 1.0) * amount * np.sin(k[0] * x + k[1] * y + phase)
        distance = np.hypot(x, y)
        z = z + hills * rise * np.maximum(distance - 25, 0)
        return np.asarray(z, dtype=np.float64)

    u = np.linspace(-1, 1, 53)
    axis = np.sign(u) * (0.12 * np.abs(u) + 0.88 * np.abs(u) ** 2.6) * extent_m
    x, y = np.meshgrid(axis, axis)
    points = np.stack([x, y, height(x, y)], axis=-1)
    material = random_material(rng, kind or str(rng.choice(["grass", "soil", "grass", "stone", "asphalt"])))
    d.fix("ground", Part(m.grid(points), material))
    return lambda px, py: float(height(np.array(px), np.array(py)))


def backdrop(d: Draft, *, distance: float) -> None:
    """A wall behind the origin (along +y), often met at an angle, and a floor; sometimes a corner."""
    rng = d.rng
    tilt = rng.normal(0, 0.35)
    span = 14.0
    wall = m.quad(np.array([[-span, 0, -3], [span, 0, -3], [span, 0, 9], [-span, 0, 9]]))
    place = m.translation(0, distance, 0) @ m.rotation("z", tilt)
    kind = str(rng.choice(["wall", "wall", "cloth", "picture", "stone", "wood", "grass"]))
    d.fix("wall", Part(wall.transformed(place), random_material(rng, kind)))
    if rng.random() < 0.3:
        side = m.translation(rng.choice([-1, 1]) * rng.uniform(1, 4), 0, 0) @ m.rotation(
            "z", np.pi / 2 + rng.normal(0, 0.3)
        )
        d.fix("wall", Part(wall.transformed(side), random_material(rng, "wall")))
    if rng.random() < 0.85:
        floor = m.quad(np.array([[-span, -span, 0], [span, -span, 0], [span, span, 0], [-span, span, 0]]))
        d.fix("floor", Part(floor, random_material(rng, str(rng.choice(["floor", "wood", "cloth", "soil", "grass"])))))


# --- kinds -----------------------------------------------------------------------------------------------------------


def _against_walls(d: Draft, width: float, depth: float, count: int) -> None:
    """Tall furniture along the walls of a room about the origin, its back (+y) to the wall."""
    for _ in range(count):
        family = str(
            d.rng.choice(["shelf", "cabinet", "cabinet", "sofa", "bed", "table", "ladder", "floor_lamp", "leafy_plant"])
        )
        parts = FAMILIES[family].build(d.rng)
        turn = int(d.rng.integers(4))
        length, away = (width, depth / 2) if turn % 2 == 0 else (depth, width / 2)
        reach = max(float(p.mesh.triangles[..., 1].max()) for p in parts)
        along = d.rng.uniform(-0.42, 0.42) * length
        x, y = along, away - reach - 0.03
        c, s = np.cos(turn * np.pi / 2), np.sin(turn * np.pi / 2)
        d.put(family, (c * x - s * y, s * x + c * y, 0.0), yaw=turn * np.pi / 2, parts=parts)


def _dress(d: Draft, support: Instance, count: int) -> None:
    """Small things on top of a table-like object."""
    low, high = support.bounds()
    for _ in range(count):
        x, y = (d.rng.uniform(low[i] + 0.1, max(low[i] + 0.11, high[i] - 0.1)) for i in (0, 1))
        d.put(d.pick("hand"), (x, y, float(high[2])), scale=float(d.rng.uniform(0.5, 0.95)))


def living_room(d: Draft) -> None:
    """A furnished room seen from eye level, a chair or a corner near the ceiling."""
    rng = d.rng
    w, e, h = rng.uniform(3, 8), rng.uniform(3, 8), rng.uniform(2.3, 3.4)
    room(d, w, e, h)
    lamplight(d, centre=(0, 0, 0), spread=min(w, e) * 0.3, height=h)
    _against_walls(d, w, e, int(rng.integers(5, 13)))
    for _ in range(int(rng.integers(3, 10))):
        at = (rng.uniform(-0.38, 0.38) * w, rng.uniform(-0.38, 0.38) * e, 0.0)
        family = d.pick("floor")
        placed = d.put(family, at)
        if family == "table":
            _dress(d, placed, int(rng.integers(1, 6)))
            for _ in range(int(rng.integers(0, 4))):
                a = rng.uniform(0, 2 * np.pi)
                d.put("chair", (at[0] + np.cos(a), at[1] + 0.8 * np.sin(a), 0.0), yaw=a - np.pi / 2)
    for _ in range(int(rng.integers(0, 3))):
        d.put("hanging_lamp", (rng.uniform(-0.3, 0.3) * w, rng.uniform(-0.3, 0.3) * e, h))
    a = rng.uniform(0, 2 * np.pi)
    z = float(rng.choice([rng.uniform(1.2, 1.7), rng.uniform(0.4, 1.2), h - 0.3]))
    eye = [0.44 * w * np.cos(a), 0.44 * e * np.sin(a), z]
    d.look(eye, [rng.normal(0, 0.15) * w, rng.normal(0, 0.15) * e, rng.uniform(0.3, 1.5)])


def corridor(d: Draft) -> None:
    """A long passage with doors, pillars, lamps along the ceiling and things along its sides."""
    rng = d.rng
    w, length, h = rng.uniform(1.4, 4), rng.uniform(10, 40), rng.uniform(2.2, 3.6)
    room(d, w, length, h, windows=rng.random() < 0.3)
    lamplight(d, centre=(0, -length / 2 + rng.uniform(2, 6), 0), spread=w * 0.3, height=h)
    for y in np.arange(-length / 2 + 1, length / 2, rng.uniform(1.5, 4)):
        for s in (-1, 1):
            if rng.random() < 0.5:
                door = m.box(0.06, 0.9, 2.05, (s * w / 2, float(y), 1.02))
                d.fix("door", Part(door, random_material(rng, "wood")))
            elif rng.random() < 0.3:
                d.fix(
                    "pillar",
                    Part(m.box(0.25, 0.25, h, (s * (w / 2 - 0.1), float(y), h / 2)), random_material(rng, "stone")),
                )
        if rng.random() < 0.5:
            d.put("hanging_lamp", (rng.normal(0, 0.2), float(y), h), scale=0.7)
    for _ in range(int(rng.integers(3, 10))):
        side = rng.choice([-1, 1]) * (w / 2 - 0.35)
        d.put(d.pick("floor", "hand"), (side, rng.uniform(-0.45, 0.45) * length, 0.0))
    eye = [rng.normal(0, 0.15) * w, -length / 2 + rng.uniform(0.4, 2), rng.uniform(0.5, h - 0.5)]
    d.look(eye, [rng.normal(0, 0.3) * w, rng.uniform(-0.1, 0.4) * length, rng.uniform(0.6, h - 0.6)])


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
    _against_walls(d, 4.0, 4.0, 3)
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
        _against_walls(d, 3.6, 4.6, int(rng.integers(2, 7)))
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
    pitch, side = rng.uniform(-0.05, 0.75) ** 1.0, rng.normal(0, 0.35)
    eye = centre + distance * np.array([np.sin(side) * np.cos(pitch), -np.cos(side) * np.cos(pitch), np.sin(pitch)])
    eye[2] = max(eye[2], 0.12)
    d.look(eye, centre + rng.normal(0, 0.06, 3) * (high - low), fov=(fov, fov), roll=0.05)


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
    pitch = rng.uniform(-0.1, 0.9)
    r = rng.uniform(0.9, 1.7)
    centre = np.array([0, 0.1, rng.uniform(0.15, 0.45)])
    side = rng.normal(0, 0.3)
    eye = centre + r * np.array([np.sin(side) * np.cos(pitch), -np.cos(side) * np.cos(pitch), np.sin(pitch)])
    eye[2] = max(eye[2], 0.15)
    d.clearance_m = 0.25
    d.look(eye, centre, fov=(32, 60))


def workshop(d: Draft) -> None:
    """A garage: a vehicle, wheels, ladders, shelves and tools, wires and grilles."""
    rng = d.rng
    w, e, h = rng.uniform(4, 7), rng.uniform(4, 7), rng.uniform(2.4, 3.2)
    room(d, w, e, h, windows=rng.random() < 0.4)
    lamplight(d, centre=(0, 0, 0), spread=1.5, height=h)
    for _ in range(int(rng.integers(1, 4))):
        d.put(
            str(rng.choice(["motorcycle", "bicycle", "wheel", "motorcycle"])),
            (rng.normal(0, 0.6), rng.normal(0, 0.7), 0.0),
        )
    for _ in range(int(rng.integers(4, 12))):
        family = str(
            rng.choice(
                [
                    "shelf",
                    "ladder",
                    "grille",
                    "perforated_plate",
                    "wheel",
                    "cabinet",
                    "chair",
                    "gadget",
                    "box",
                    "can",
                    "blob",
                ]
            )
        )
        d.put(
            family, (rng.uniform(-0.42, 0.42) * w, rng.uniform(0.0, 0.42) * e, 0.0), scale=float(rng.uniform(0.8, 1.5))
        )
    _against_walls(d, w, e, 5)
    for _ in range(int(rng.integers(0, 4))):
        d.put("hanging_lamp", (rng.normal(0, 1), rng.uniform(-1.5, 1), h))
    eye = [rng.normal(0, 0.5), -e * 0.45, rng.uniform(0.5, 1.7)]
    d.look(eye, [rng.normal(0, 0.3), 0.3, rng.uniform(0.4, 1.0)], fov=(35, 65))


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


def shelves(d: Draft) -> None:
    """Close in front of filled shelves or a wall of cabinets, seen straight or along them."""
    rng = d.rng
    room(d, 7, rng.uniform(3, 6), 2.8, windows=False)
    e = 1.5
    lamplight(d, centre=(0, 0, 0), spread=1.0, height=2.7)
    x = -3.0
    while x < 3.0:
        step = rng.uniform(0.7, 1.6)
        d.put(
            str(rng.choice(["shelf", "shelf", "shelf", "cabinet"])),
            (x + step / 2, e - 0.25, 0.0),
            yaw=rng.normal(0, 0.04),
        )
        x += step
    for _ in range(int(rng.integers(0, 5))):
        d.put(d.pick("floor", "hand"), (rng.normal(0, 1.2), rng.uniform(0.0, 1.0), 0.0))
    side = rng.uniform(-1.2, 1.2)
    r = rng.uniform(1.0, 2.2)
    eye = [r * np.sin(side), e - 0.3 - r * np.cos(side), rng.uniform(0.5, 2.3)]
    d.look(eye, [rng.normal(0, 0.3), e - 0.2, rng.uniform(0.5, 1.6)], fov=(40, 70))


LAYOUTS: dict[str, tuple[Callable[[Draft], None], float]] = {
    "object_close_up": (object_close_up, 0.21),
    "living_room": (living_room, 0.11),
    "bin_from_above": (bin_from_above, 0.11),
    "tabletop": (tabletop, 0.09),
    "plants": (plants, 0.08),
    "floating": (floating, 0.08),
    "workshop": (workshop, 0.06),
    "overhang": (overhang, 0.06),
    "street": (street, 0.05),
    "open_country": (open_country, 0.04),
    "yard": (yard, 0.04),
    "shelves": (shelves, 0.03),
    "corridor": (corridor, 0.04),
}
"""Scene kinds with their shares; a real photograph has one thing as its subject in most cases."""
