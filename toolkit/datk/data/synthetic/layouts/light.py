"""Light and air: sun and sky, or lamps in a room."""

from __future__ import annotations

import numpy as np

from datk.data.synthetic.layouts.draft import Draft
from datk.data.synthetic.materials import Colour
from datk.data.synthetic.objects import Rng
from datk.data.synthetic.scene import Array, Environment, Light
from datk.data.synthetic.textures import layer_of


def grey(rng: Rng, low: float, high: float, *, warm: float = 0.0) -> Colour:
    level, shift = rng.uniform(low, high), rng.normal(warm, 0.06)
    return float(level * (1 + shift)), float(level), float(level * (1 - shift))


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
    horizon = grey(rng, 0.5, 1.0, warm=0.1 * warm) if dull else (0.65 + 2 * warm, 0.75 + 0.5 * warm, 0.85)
    zenith = grey(rng, 0.35, 0.9) if dull else (0.12 + warm, rng.uniform(0.25, 0.45), rng.uniform(0.6, 0.95))
    d.environment = Environment(
        zenith=(float(zenith[0]), float(zenith[1]), float(zenith[2])),
        horizon=(float(horizon[0]), float(horizon[1]), float(horizon[2])),
        ground=grey(rng, 0.08, 0.25, warm=0.05),
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
        zenith=grey(rng, 0.4, 0.9, warm=0.05),
        horizon=grey(rng, 0.3, 0.8, warm=0.05),
        ground=grey(rng, 0.1, 0.4, warm=0.08),
        ambient=float(rng.uniform(0.15, 0.6)),
        cloud_layer=layer_of("cloud", int(rng.integers(4))),
        cloud_amount=0.3,
        fog_colour=grey(rng, 0.3, 0.6),
        fog_per_m=float(rng.uniform(0, 0.01)),
    )
