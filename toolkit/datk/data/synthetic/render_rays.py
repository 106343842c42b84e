"""Ray caster on Embree (embreex) with NumPy shading: the renderer that needs pip only.

Colour 2x supersampled; depth from rays through the pixel centres, refined in float64 on the plane of the triangle hit.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.data.synthetic.film import develop
from datk.data.synthetic.looks import LightInCamera, env_gain, light_in_camera, material_rows, sun_of
from datk.data.synthetic.materials import Surface
from datk.data.synthetic.renderer import PIP_LINE, Rendered
from datk.data.synthetic.scene import NEAR_M, Array, Geometry, Scene, Size
from datk.data.synthetic.shading import Floats, dot, environment_radiance, length, lit, nearest_texel, sample_bank
from datk.errors import EnvironmentLacks

SUPERSAMPLE = 2


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
        rays = scene.camera.rays(fine).reshape(-1, 3).astype(np.float32)
        colours = np.minimum(tracer.see(rays), 12.0)
        blocks = colours.reshape(height, SUPERSAMPLE, width, SUPERSAMPLE, 3)
        image = develop(blocks.mean(axis=(1, 3)), scene.film)
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
    corners = geometry.triangles[hit[found]].astype(np.float64)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    z = np.einsum("ij,ij->i", normal, corners[:, 0]) / np.einsum("ij,ij->i", normal, flat[found])
    depth[found] = np.clip(z, corners[..., 2].min(1), corners[..., 2].max(1))
    surface[found] = geometry.surface[hit[found]]
    shape = rays.shape[:2]
    return depth.astype(np.float32).reshape(shape), surface.reshape(shape)


class _Tracer:
    """Radiance along rays in one scene."""

    def __init__(self, scene: Scene, everything: Any, opaque: Any) -> None:
        self.scene, self.geometry = scene, scene.geometry
        self.everything, self.opaque = everything, opaque
        self.rows = material_rows(scene.geometry.materials)
        self.lights: list[LightInCamera] = [light_in_camera(light, scene.camera) for light in scene.lights]
        self.to_world = scene.camera.rotation.T.astype(np.float32)
        self.up = scene.camera.rotation[:, 2].astype(np.float32)
        self.sun_direction, self.sun_colour = sun_of(scene)

    def environment(self, directions: Floats) -> Floats:
        return environment_radiance(
            directions @ self.to_world.T, self.scene.environment, self.sun_direction, self.sun_colour
        )

    def occluded(self, origins: Floats, directions: Floats, distances: Floats) -> NDArray[np.bool_]:
        # embreex writes into the array of distances it is given
        answer = self.opaque.run(origins, directions, query="OCCLUDED", dists=distances * np.float32(0.999))
        result: NDArray[np.bool_] = np.asarray(answer) >= 0
        return result

    def see(self, rays: Floats) -> Floats:
        """Radiance along camera rays (N, 3) from the origin, glass and mirrors included."""
        unit = rays / length(rays)
        return self._trace(self.everything, rays * np.float32(NEAR_M), unit, deeper=True)

    def _trace(self, embree: Any, origins: Floats, directions: Floats, *, deeper: bool) -> Floats:
        """Radiance along unit rays; with `deeper`, one further ray at glass and mirrors (among opaque things)."""
        hit, distance, normal, uv = self._hit(embree, origins, directions)
        found, missed = np.flatnonzero(hit >= 0), np.flatnonzero(hit < 0)
        colour = np.empty((len(directions), 3), dtype=np.float32)
        colour[missed] = self.environment(directions[missed])
        if len(found) == 0:
            return colour
        position = origins[found] + distance[found, None] * directions[found]
        view = -directions[found]
        rows = self.rows[self.geometry.material[hit[found]]]  # (N, 4, 4)
        surface = self.geometry.surface[hit[found]]
        texel = sample_bank(rows[:, 2, 0], uv)
        special = np.flatnonzero(surface != Surface.OPAQUE) if deeper else np.empty(0, np.int64)
        if len(special) == 0:
            shaded = self._solid(position, normal, view, rows, texel, uv)
        else:
            shaded = np.empty((len(found), 3), dtype=np.float32)
            solid = np.flatnonzero(surface == Surface.OPAQUE)
            shaded[solid] = self._solid(*(part[solid] for part in (position, normal, view, rows, texel, uv)))
            shaded[special] = self._special(
                position[special], normal[special], view[special], rows[special], texel[special], surface[special]
            )
        environment = self.scene.environment
        fog = np.asarray(environment.fog_colour, dtype=np.float32)
        keep = np.exp(-environment.fog_per_m * distance[found])[:, None].astype(np.float32)
        colour[found] = fog + (shaded - fog) * keep
        return colour

    def _hit(
        self, embree: Any, origins: Floats, directions: Floats
    ) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
        """Triangle (-1 none), and distance for each ray; facing normal and texture place for the rays that hit."""
        answer = embree.run(origins, directions, output=1)
        hit = answer["primID"].astype(np.int64)
        found = np.flatnonzero(hit >= 0)
        triangle = hit[found]
        u, v = answer["u"][found, None].astype(np.float32), answer["v"][found, None].astype(np.float32)
        geometry = self.geometry
        weights = np.concatenate([1 - u - v, u, v], axis=1)  # (N, 3) of the corners
        normal = np.einsum("nk,nkc->nc", weights, geometry.normals[triangle])
        normal /= np.maximum(length(normal), 1e-6)
        normal *= np.where(dot(normal, directions[found]) > 0, np.float32(-1), np.float32(1))
        uv = np.einsum("nk,nkc->nc", weights, geometry.uv[triangle])
        return hit, answer["tfar"].astype(np.float32), normal, uv

    def _light(self, base: Floats, position: Floats, normal: Floats, view: Floats, rows: Floats) -> Floats:
        return lit(
            base,
            position,
            normal,
            view,
            rows[:, 0, 3:],
            rows[:, 1, 3:],
            up=self.up,
            environment=self.scene.environment,
            lights=self.lights,
            occluded=self.occluded,
        )

    def _solid(self, position: Floats, normal: Floats, view: Floats, rows: Floats, texel: Floats, uv: Floats) -> Floats:
        shifted = nearest_texel(rows[:, 2, 0], uv + np.array([0.011, 0.007], dtype=np.float32))
        own = texel[:, :3] * rows[:, 0, :3]
        mixed = rows[:, 0, :3] + (rows[:, 1, :3] - rows[:, 0, :3]) * texel[:, :1]
        base = np.where(rows[:, 2, 1:2] > 0.5, own, mixed)
        base = base * np.clip(1 + 1.6 * rows[:, 2, 2:3] * (texel[:, 3:] - shifted[:, 3:]), 0.3, 1.8)
        total = self._light(base, position, normal, view, rows)
        facing = np.maximum(dot(normal, view), 0)
        fresnel = rows[:, 0, 3:] * (0.03 + 0.6 * (1 - facing) ** 4) * np.clip(rows[:, 1, 3:] / 80, 0, 1)
        shiny = np.flatnonzero(fresnel[:, 0] > 0.01)
        reflected = 2 * facing[shiny] * normal[shiny] - view[shiny]
        total[shiny] += fresnel[shiny] * self.scene.environment.ambient * self.environment(reflected)
        result: Floats = total + rows[:, 2, 3:] * rows[:, 0, :3]
        return result

    def _special(
        self,
        position: Floats,
        normal: Floats,
        view: Floats,
        rows: Floats,
        texel: Floats,
        surface: NDArray[np.uint8],
    ) -> Floats:
        sheen = self._light(np.zeros_like(position), position, normal, view, rows)
        facing = np.maximum(dot(normal, view), 0)
        reflected = (2 * facing * normal - view).astype(np.float32)
        total = np.empty_like(position)
        mirrors = np.flatnonzero(surface == Surface.MIRROR)
        if len(mirrors):
            start = position[mirrors] + 1e-3 * normal[mirrors]
            seen = self._trace(self.opaque, start, reflected[mirrors], deeper=False)
            total[mirrors] = seen * rows[mirrors, 0, :3] + sheen[mirrors]
        panes = np.flatnonzero(surface == Surface.GLASS)
        if len(panes):
            wave = (texel[panes, 3:] - 0.5) * 0.04 * rows[panes, 2, 2:3]
            bent = -view[panes] + normal[panes] * (0.02 + wave)
            bent /= length(bent)
            behind = self._trace(
                self.opaque, position[panes] - 1e-3 * normal[panes], bent.astype(np.float32), deeper=False
            )
            fresnel = 0.04 + 0.75 * (1 - facing[panes]) ** 4
            mirrored = env_gain(self.scene.environment) * self.environment(reflected[panes])
            through = behind * rows[panes, 0, :3]
            total[panes] = through * (1 - fresnel) + fresnel * mirrored + sheen[panes] + 0.02 * texel[panes, :1]
        return total
