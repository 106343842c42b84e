"""Numbers both renderers derive from a scene in the same way: light frames, shadow projections, material rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datk.data.synthetic.materials import Material
from datk.data.synthetic.scene import Array, Camera, Environment, Light, Scene


@dataclass(frozen=True)
class LightInCamera:
    """A light in camera space.  position, direction: (3,).  is_spot, cos_cone, reach_m: as in scene.Light."""

    position: Array
    direction: Array
    colour: Array
    is_spot: bool
    cos_cone: float
    reach_m: float
    projection: Array
    """(4, 4) camera space to the shadow map's clip space."""


def light_in_camera(light: Light, camera: Camera) -> LightInCamera:
    """Turn a world light into camera space, with the matrix of its shadow map."""
    direction = camera.rotation @ light.direction
    is_spot = light.position is not None
    anchor = light.focus if light.position is None else light.position
    position = camera.rotation @ (anchor - camera.position)
    helper = np.array([0.0, 1.0, 0.0]) if abs(direction[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    right = np.cross(direction, helper)
    right /= np.linalg.norm(right)
    frame = np.eye(4)
    frame[:3, :3] = np.stack([right, np.cross(direction, right), direction])
    frame[:3, 3] = -frame[:3, :3] @ position
    projection = np.zeros((4, 4))
    if is_spot:
        near, far = 0.08, 60.0
        scale = 1.0 / np.tan(min(light.cone_rad + 0.1, 1.35))
        projection[0, 0] = projection[1, 1] = scale
        projection[2, 2], projection[2, 3] = (far + near) / (far - near), -2 * far * near / (far - near)
        projection[3, 2] = 1.0
    else:
        projection[0, 0] = projection[1, 1] = 1.0 / light.extent_m
        projection[2, 2] = 1.0 / 80.0
        projection[3, 3] = 1.0
    colour = np.asarray(light.colour, dtype=np.float64)
    return LightInCamera(
        position, direction, colour, is_spot, float(np.cos(light.cone_rad)), light.reach_m, projection @ frame
    )


def env_gain(environment: Environment) -> float:
    """How bright the surroundings look in glass: as bright as the ambient light indoors, full under the sky."""
    return float(min(1.0, 0.4 + environment.ambient))


def sun_of(scene: Scene) -> tuple[Array, Array]:
    """((3,) world direction towards the sun, (3,) colour), black when the lights are lamps."""
    light = scene.lights[0]
    colour = np.zeros(3) if light.position is not None else np.asarray(light.colour, dtype=np.float64)
    return -light.direction, colour


def material_rows(materials: Sequence[Material]) -> NDArray[np.float32]:
    """(M, 4, 4) float32: colour_a + specular | colour_b + gloss | layer, own colours, relief, emission | surface."""
    rows = np.zeros((len(materials), 4, 4), dtype=np.float32)
    for row, material in zip(rows, materials, strict=True):
        row[0] = (*material.colour_a, material.specular)
        row[1] = (*material.colour_b, material.gloss)
        row[2] = (material.layer, float(material.own_colours), material.relief, material.emission)
        row[3, 0] = float(material.surface == 2)
    return rows
