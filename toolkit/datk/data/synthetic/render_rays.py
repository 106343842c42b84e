"""Ray caster on Embree (embreex) with NumPy shading: the renderer that needs pip only.

Colour 2x supersampled; depth from rays through the pixel centres, refined in float64 on the plane of the triangle hit.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.data.synthetic.film import develop
from datk.data.synthetic.looks import LightInCamera, env_gain, light_in_camera, material_rows, sun_of
from datk.data.synthetic.materials import Surface
from datk.data.synthetic.renderer import PIP_LINE, Rendered
from datk.data.synthetic.scene import NEAR_M, Array, Geometry, Scene, Size
from datk.data.synthetic.shading import (
    Floats,
    column,
    dot,
    environment_radiance,
    length,
    lit,
    nearest_texel,
    sample_bank,
)
from datk.errors import EnvironmentLacks

SUPERSAMPLE = 2
BLOCK = 8192
"""Rays followed together: their rows stay in a core's own cache."""

COLOUR_A, SPECULAR, COLOUR_B, GLOSS = slice(0, 3), 3, slice(4, 7), 7
LAYER, OWN_COLOURS, RELIEF, EMISSION = 8, 9, 10, 11
"""Where a material row (looks.material_rows, flattened) holds what."""


class RayRenderer:
    """Draws by casting rays on the CPU. Raises EnvironmentLacks when embreex or trimesh is missing."""

    name = "embreex"

    def __init__(self) -> None:
        try:
            import trimesh  # noqa: F401 - its loader brings embreex's shared libraries into place
            from embreex import rtcore_scene
            from embreex.mesh_construction import TriangleMesh
        except ImportError as error:
            raise EnvironmentLacks(f"renderer embreex: {error}", hint=PIP_LINE) from error
        self._scene_class: Any = rtcore_scene.EmbreeScene
        self._mesh_class: Any = TriangleMesh
        self.detail = f"embreex {version('embreex')}"

    def close(self) -> None:
        """Nothing is held between scenes."""

    def render(self, scene: Scene, size: Size) -> Rendered:
        """See Renderer.render."""
        geometry = scene.geometry
        everything = self._accelerate(geometry.triangles)
        solid = geometry.opaque_count == len(geometry.triangles)
        opaque = everything if solid else self._accelerate(geometry.triangles[: geometry.opaque_count])
        depth, surface = first_hits(everything, geometry, scene.camera.rays(size))
        tracer = _Tracer(scene, everything, opaque)
        height, width = size
        fine = (height * SUPERSAMPLE, width * SUPERSAMPLE)
        rays = np.ascontiguousarray(scene.camera.rays(fine).reshape(-1, 3).T, dtype=np.float32)
        colours = np.minimum(tracer.see(rays), np.float32(12)).reshape(3, *fine)
        rows = colours[:, 0::2] + colours[:, 1::2]
        mean = (rows[..., 0::2] + rows[..., 1::2]) * np.float32(0.25)
        image = develop(np.ascontiguousarray(mean.transpose(1, 2, 0)), scene.film)
        return Rendered(image, depth, surface == Surface.GLASS, surface == Surface.MIRROR)

    def _accelerate(self, triangles: NDArray[np.float32]) -> Any:
        embree = self._scene_class(robust=True)
        self._mesh_class(embree, triangles)
        return embree


def first_hits(embree: Any, geometry: Geometry, rays: Array) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Depth in metres and surface of the first triangle on each (H, W, 3) ray; (inf, 0) where there is none."""
    flat = rays.reshape(-1, 3)
    directions = np.ascontiguousarray(flat, dtype=np.float32)
    hit = embree.run(directions * np.float32(NEAR_M), directions, query="INTERSECT")
    depth = np.full(len(flat), np.inf)
    surface = np.zeros(len(flat), dtype=np.uint8)
    found = np.flatnonzero(hit >= 0)
    triangle = hit.take(found)
    first, second, third = (geometry.triangles[:, k].T.astype(np.float64).take(triangle, 1) for k in range(3))
    (ax, ay, az), (bx, by, bz) = second - first, third - first
    nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    x, y, one = flat.take(found, 0).T
    z = (nx * first[0] + ny * first[1] + nz * first[2]) / (nx * x + ny * y + nz * one)
    nearest = np.minimum(np.minimum(first[2], second[2]), third[2])
    farthest = np.maximum(np.maximum(first[2], second[2]), third[2])
    depth[found] = np.clip(z, nearest, farthest)
    surface[found] = geometry.surface.take(triangle)
    shape = rays.shape[:2]
    return depth.astype(np.float32).reshape(shape), surface.reshape(shape)


class _Tracer:
    """Radiance along rays in one scene. Vectors and colours are (3, N), as in shading.py."""

    def __init__(self, scene: Scene, everything: Any, opaque: Any) -> None:
        self.scene, self.geometry = scene, scene.geometry
        self.everything, self.opaque = everything, opaque
        self.materials = np.ascontiguousarray(material_rows(scene.geometry.materials).reshape(-1, 16).T)
        self.normals = np.ascontiguousarray(scene.geometry.normals.transpose(1, 2, 0))  # (corner, axis, triangle)
        self.uv = np.ascontiguousarray(scene.geometry.uv.transpose(1, 2, 0))
        self.lights: list[LightInCamera] = [light_in_camera(light, scene.camera) for light in scene.lights]
        self.to_world = scene.camera.rotation.T.astype(np.float32)
        self.up = column(scene.camera.rotation[:, 2])
        self.sun_direction, self.sun_colour = sun_of(scene)

    def environment(self, directions: Floats) -> Floats:
        return environment_radiance(
            self.to_world @ directions, self.scene.environment, self.sun_direction, self.sun_colour
        )

    def occluded(self, origins: Floats, directions: Floats, distances: Floats) -> NDArray[np.bool_]:
        # embreex writes into the array of distances it is given
        near = distances * np.float32(0.999)
        answer = self.opaque.run(_points(origins), _points(directions), query="OCCLUDED", dists=near)
        result: NDArray[np.bool_] = np.asarray(answer) >= 0
        return result

    def see(self, rays: Floats) -> Floats:
        """Radiance along camera rays (3, N) from the origin, glass and mirrors included; in blocks that fit a cache."""
        colours = np.empty_like(rays)
        for first in range(0, rays.shape[1], BLOCK):
            block = rays[:, first : first + BLOCK]
            start, unit = block * np.float32(NEAR_M), block / length(block)
            colours[:, first : first + BLOCK] = self._trace(self.everything, start, unit, deeper=True)
        return colours

    def _trace(self, embree: Any, origins: Floats, directions: Floats, *, deeper: bool) -> Floats:
        """Radiance along unit rays; with `deeper`, one further ray at glass and mirrors (among opaque things)."""
        answer = embree.run(_points(origins), _points(directions), output=1)
        hit: NDArray[np.int32] = answer["primID"]
        found, missed = np.flatnonzero(hit >= 0), np.flatnonzero(hit < 0)
        colour = np.empty_like(directions)
        if len(missed):
            colour[:, missed] = self.environment(directions.take(missed, 1))
        if len(found) == 0:
            return colour
        triangle, towards = hit.take(found), directions.take(found, 1)
        u, v, distance = (answer[name].take(found).astype(np.float32, copy=False) for name in ("u", "v", "tfar"))
        corners = (1 - u - v, u, v)
        normal = _between(self.normals, triangle, corners)
        normal *= np.copysign(1 / np.maximum(length(normal), np.float32(1e-6)), -dot(normal, towards))
        uv = _between(self.uv, triangle, corners)
        position = origins.take(found, 1) + distance * towards
        material = self.materials.take(self.geometry.material.take(triangle), 1)  # (16, N)
        surface = self.geometry.surface.take(triangle)
        parts = (position, normal, -towards, material, sample_bank(material[LAYER], uv), uv)
        special = np.flatnonzero(surface != Surface.OPAQUE) if deeper else np.empty(0, np.int64)
        if len(special) == 0:
            shaded = self._solid(*parts)
        else:
            shaded = np.empty_like(position)
            solid = np.flatnonzero(surface == Surface.OPAQUE)
            shaded[:, solid] = self._solid(*(part.take(solid, 1) for part in parts))
            shaded[:, special] = self._special(surface.take(special), *(part.take(special, 1) for part in parts[:5]))
        environment = self.scene.environment
        fog = column(environment.fog_colour)
        colour[:, found] = fog + (shaded - fog) * np.exp(np.float32(-environment.fog_per_m) * distance)
        return colour

    def _light(self, base: Floats, position: Floats, normal: Floats, view: Floats, material: Floats) -> Floats:
        return lit(
            base,
            position,
            normal,
            view,
            material[SPECULAR],
            material[GLOSS],
            up=self.up,
            environment=self.scene.environment,
            lights=self.lights,
            occluded=self.occluded,
        )

    def _solid(
        self, position: Floats, normal: Floats, view: Floats, material: Floats, texel: Floats, uv: Floats
    ) -> Floats:
        shifted = nearest_texel(material[LAYER], uv + np.array([[0.011], [0.007]], dtype=np.float32), 3)
        first, second = material[COLOUR_A], material[COLOUR_B]
        own = material[OWN_COLOURS] > 0.5
        base = np.where(own, texel[:3] * first, first + (second - first) * texel[0])
        base *= np.clip(1 + np.float32(1.6) * material[RELIEF] * (texel[3] - shifted), 0.3, 1.8)
        total = self._light(base, position, normal, view, material)
        facing = np.maximum(dot(normal, view), 0)
        polish = material[SPECULAR] * np.clip(material[GLOSS] * np.float32(1 / 80), 0, 1)
        fresnel = polish * (np.float32(0.03) + np.float32(0.6) * (1 - facing) ** 4)
        shiny = np.flatnonzero(fresnel > np.float32(0.01))
        if len(shiny):
            reflected = 2 * facing.take(shiny) * normal.take(shiny, 1) - view.take(shiny, 1)
            gain = fresnel.take(shiny) * np.float32(self.scene.environment.ambient)
            total[:, shiny] += gain * self.environment(reflected)
        total += material[EMISSION] * first
        return total

    def _special(
        self,
        surface: NDArray[np.uint8],
        position: Floats,
        normal: Floats,
        view: Floats,
        material: Floats,
        texel: Floats,
    ) -> Floats:
        sheen = self._light(np.zeros_like(position), position, normal, view, material)
        facing = np.maximum(dot(normal, view), 0)
        reflected = 2 * facing * normal - view
        tint = material[COLOUR_A]
        total = np.empty_like(position)
        mirrors = np.flatnonzero(surface == Surface.MIRROR)
        if len(mirrors):
            start = position.take(mirrors, 1) + np.float32(1e-3) * normal.take(mirrors, 1)
            seen = self._trace(self.opaque, start, reflected.take(mirrors, 1), deeper=False)
            total[:, mirrors] = seen * tint.take(mirrors, 1) + sheen.take(mirrors, 1)
        panes = np.flatnonzero(surface == Surface.GLASS)
        if len(panes):
            along = normal.take(panes, 1)
            wave = (texel[3].take(panes) - np.float32(0.5)) * np.float32(0.04) * material[RELIEF].take(panes)
            bent = along * (np.float32(0.02) + wave) - view.take(panes, 1)
            bent *= 1 / length(bent)
            start = position.take(panes, 1) - np.float32(1e-3) * along
            behind = self._trace(self.opaque, start, bent, deeper=False)
            fresnel = np.float32(0.04) + np.float32(0.75) * (1 - facing.take(panes)) ** 4
            mirrored = np.float32(env_gain(self.scene.environment)) * self.environment(reflected.take(panes, 1))
            through = behind * tint.take(panes, 1)
            glow = sheen.take(panes, 1) + np.float32(0.02) * texel[0].take(panes)
            total[:, panes] = through + (mirrored - through) * fresnel + glow
        return total


def _points(vectors: Floats) -> Floats:
    """(3, N) -> (N, 3), as Embree wants its rays."""
    return np.ascontiguousarray(vectors.T)


def _between(corners: Floats, triangle: NDArray[np.int32], weights: Sequence[Floats]) -> Floats:
    """Values of the three corners, (3, C, T), mixed at each of the N hits by its three weights (N,): (C, N)."""
    mixed: Floats = corners[0].take(triangle, 1) * weights[0]
    mixed += corners[1].take(triangle, 1) * weights[1]
    mixed += corners[2].take(triangle, 1) * weights[2]
    return mixed
