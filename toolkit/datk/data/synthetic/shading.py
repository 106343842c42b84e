"""The lighting model in NumPy, for the ray caster: the same formulas as shaders.py, over flat arrays of hits.

Vectors and colours are (3, N): one contiguous row a component, which NumPy walks several times faster than (N, 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from datk.data.synthetic.looks import LightInCamera
from datk.data.synthetic.scene import Array, Environment
from datk.data.synthetic.textures import EDGE, texture_bank

Floats = NDArray[np.float32]
Occluded = Callable[[Floats, Floats, Floats], NDArray[np.bool_]]
"""(origins (3, N), directions (3, N), distances (N,)) -> whether something opaque is on the way."""


def smoothstep(low: float, high: float, x: Floats) -> Floats:
    """Hermite step between low and high, as in GLSL."""
    t = np.clip((x - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    result: Floats = t * t * (3 - 2 * t)
    return result


def dot(a: Floats, b: Floats) -> Floats:
    """(3, N), (3, N) or (3, 1) -> (N,) inner products."""
    result: Floats = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return result


def length(a: Floats) -> Floats:
    """(3, N) -> (N,) Euclidean lengths."""
    result: Floats = np.sqrt(dot(a, a))
    return result


def column(values: Iterable[float]) -> Floats:
    """(3, 1) float32 of a colour or an axis, to stand beside (3, N)."""
    return np.asarray(tuple(values), dtype=np.float32)[:, None]


@cache
def _flat_bank() -> NDArray[np.uint32]:
    """(LAYERS * EDGE * EDGE,) texels of four bytes: one gather fetches them all."""
    return np.ascontiguousarray(texture_bank()).view(np.uint32).reshape(-1)


def _channels(place: NDArray[np.int32]) -> NDArray[np.uint8]:
    """(4, N) bytes of the texels at flat places, each channel contiguous."""
    texels = _flat_bank().take(place)
    return np.ascontiguousarray(texels.view(np.uint8).reshape(-1, 4).T)


def sample_bank(layer: Floats, uv: Floats) -> Floats:
    """Bilinear, repeating texture look-up.  layer: (N,) whole numbers, uv: (2, N) -> (4, N) float32 0..1."""
    at = uv * np.float32(EDGE) - np.float32(0.5)
    corner = np.floor(at)
    wx, wy = at - corner
    low = corner.astype(np.int32) & (EDGE - 1)
    high = (low + 1) & (EDGE - 1)
    base = layer.astype(np.int32) * (EDGE * EDGE)
    r0, r1 = base + low[1] * EDGE, base + high[1] * EDGE
    one = np.float32(1 / 255)
    w00, w01 = (1 - wy) * (1 - wx) * one, (1 - wy) * wx * one
    w10, w11 = wy * (1 - wx) * one, wy * wx * one
    mixed: Floats = _channels(r0 + low[0]) * w00
    mixed += _channels(r0 + high[0]) * w01
    mixed += _channels(r1 + low[0]) * w10
    mixed += _channels(r1 + high[0]) * w11
    return mixed


def nearest_texel(layer: Floats, uv: Floats, channel: int) -> Floats:
    """As one channel of sample_bank without interpolation, where nobody sees the difference (relief, clouds)."""
    at = (uv * np.float32(EDGE)).astype(np.int32) & (EDGE - 1)
    place = layer.astype(np.int32) * (EDGE * EDGE) + at[1] * EDGE + at[0]
    texels = _flat_bank().take(place).view(np.uint8)[channel::4]
    result: Floats = texels * np.float32(1 / 255)
    return result


def environment_radiance(world: Floats, environment: Environment, sun_direction: Array, sun_colour: Array) -> Floats:
    """What is seen along (3, N) unit world directions beyond all geometry."""
    up = world[2]
    horizon, zenith = column(environment.horizon), column(environment.zenith)
    sky = horizon + (zenith - horizon) * np.sqrt(np.maximum(up, 0))
    at: Floats = world[:2] * (np.float32(0.21) / (np.float32(0.12) + np.abs(up)))
    cloud = nearest_texel(np.full(len(up), environment.cloud_layer, dtype=np.float32), at, 0)
    white = 0.25 * horizon + 0.75 * horizon.mean() * 1.25
    share = np.float32(environment.cloud_amount) * smoothstep(0.4, 0.8, cloud) * smoothstep(0.0, 0.15, up)
    sky += (white - sky) * share
    if np.any(sun_colour):
        towards = np.maximum(dot(world, column(sun_direction)), 0)
        sky += column(sun_colour) * (4.0 * towards**600 + 0.1 * towards**12)
    ground = column(environment.ground) * (0.8 + 0.4 * cloud)
    result: Floats = ground + (sky - ground) * smoothstep(-0.02, 0.02, up)
    return result


def lit(
    base: Floats,
    position: Floats,
    normal: Floats,
    view: Floats,
    specular: Floats,
    gloss: Floats,
    *,
    up: Floats,
    environment: Environment,
    lights: Sequence[LightInCamera],
    occluded: Occluded,
) -> Floats:
    """Ambient, two lights with shadow rays and a Blinn highlight.

    base, position, normal, view: (3, N) camera space; specular, gloss: (N,); up: (3, 1) world up in camera axes.
    """
    ground = column(environment.ground)
    above = 0.5 * (column(environment.zenith) + column(environment.horizon))
    total: Floats = base * (ground + (above - ground) * (0.5 + 0.5 * dot(normal, up)))
    total *= np.float32(environment.ambient)
    start = position + normal * (np.float32(0.002) + np.float32(0.0005) * length(position))
    to_light: Floats
    for light in lights:
        along: Floats = -column(light.direction)
        if light.is_spot:
            to_light = column(light.position) - position
            distance = length(to_light)
            to_light /= np.maximum(distance, np.float32(1e-6))
            strength = smoothstep(light.cos_cone - 0.25, light.cos_cone + 0.15, dot(to_light, along))
            strength /= 1 + (distance * np.float32(1 / light.reach_m)) ** 2
        else:
            to_light = np.broadcast_to(along, position.shape)
            distance = np.full(position.shape[1], 80.0, dtype=np.float32)
            strength = np.ones(position.shape[1], dtype=np.float32)
        facing = dot(normal, to_light)
        ask = np.flatnonzero((facing > 0) & (strength > np.float32(1e-4)))
        if len(ask) == 0:
            continue
        dark = occluded(start.take(ask, 1), to_light.take(ask, 1), distance.take(ask))
        lighted = ask[~dark]
        half_way: Floats = to_light.take(lighted, 1) + view.take(lighted, 1)
        half_way /= np.maximum(length(half_way), np.float32(1e-6))
        sharp = gloss.take(lighted)
        aligned = np.maximum(dot(normal.take(lighted, 1), half_way), np.float32(1e-6))
        shine = specular.take(lighted) * aligned**sharp * (sharp + 8) * np.float32(1 / 40)
        weight = strength.take(lighted) * facing.take(lighted)
        colour = column(light.colour)
        for axis in range(3):  # a row at a time: NumPy adds to single rows at given places faster than to the block
            total[axis, lighted] += colour[axis] * weight * (base[axis].take(lighted) + shine)
    return total
