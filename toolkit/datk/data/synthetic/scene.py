"""A scene: instances of meshes, materials, one camera, two lights, an environment. Knows no renderer.

Every renderer and the oracle draw the same float32 camera-space triangles (`Scene.geometry`), so their depths can be
compared to rounding. Camera axes: x right, y down, z forward; depth is z in metres.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from datk.data.synthetic.materials import Colour, Material, Surface
from datk.data.synthetic.mesh import cross
from datk.data.synthetic.objects import Part

NEAR_M = 0.05
"""Surfaces nearer than this along the axis are cut off, in both renderers and the oracle."""

Size = tuple[int, int]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """Pinhole camera.  position: (3,) world metres.  rotation: (3, 3) rows right, down, forward in world axes.

    focal: focal length in image heights; the principal point is the image centre.
    """

    position: Array
    rotation: Array
    focal: float

    @classmethod
    def looking_at(cls, position: Array, target: Array, *, vertical_fov_rad: float, roll_rad: float = 0.0) -> Camera:
        """Camera at `position` with `target` on its axis; up is world z, turned by the roll."""
        position, target = np.asarray(position, dtype=np.float64), np.asarray(target, dtype=np.float64)
        forward = target - position
        forward = forward / np.linalg.norm(forward)
        helper = np.array([0.0, 0.0, 1.0]) if abs(forward[2]) < 0.999 else np.array([0.0, 1.0, 0.0])
        right = np.cross(forward, helper)
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        c, s = np.cos(roll_rad), np.sin(roll_rad)
        rotation = np.stack([c * right + s * down, c * down - s * right, forward])
        return cls(position, rotation, float(0.5 / np.tan(vertical_fov_rad / 2)))

    def rays(self, size: Size, *, offset: tuple[float, float] = (0.0, 0.0)) -> Array:
        """(H, W, 3) float64 camera-space rays through the pixel centres, z component 1, so that t is depth.

        offset: (row, column) added to the pixel centre, in pixels.
        """
        height, width = size
        pixel = self.focal * height
        y = (np.arange(height) + 0.5 + offset[0] - height / 2) / pixel
        x = (np.arange(width) + 0.5 + offset[1] - width / 2) / pixel
        rays = np.ones((height, width, 3))
        rays[..., 0], rays[..., 1] = x[None], y[:, None]
        return rays


@dataclass(frozen=True)
class Light:
    """A sun (position None) or a spot. direction: where the light travels, (3,) world, unit. colour: radiance scale.

    A spot falls off as 1 / (1 + (d / reach_m)^2) inside a cone of half angle `cone_rad`.
    focus, extent_m: what the sun's shadow map covers.
    """

    direction: Array
    colour: Colour
    position: Array | None = None
    cone_rad: float = 1.1
    reach_m: float = 3.0
    focus: Array = field(default_factory=lambda: np.zeros(3))
    extent_m: float = 20.0


@dataclass(frozen=True)
class Environment:
    """What is beyond all geometry, the ambient light and the air."""

    zenith: Colour = (0.2, 0.4, 0.8)
    horizon: Colour = (0.7, 0.8, 0.9)
    ground: Colour = (0.2, 0.18, 0.15)
    ambient: float = 0.4
    cloud_layer: int = 4
    cloud_amount: float = 0.5
    fog_colour: Colour = (0.7, 0.75, 0.8)
    fog_per_m: float = 0.0


@dataclass(frozen=True)
class Film:
    """What camera and development do to the picture; see film.develop."""

    exposure: float = 1.0
    balance: Colour = (1.0, 1.0, 1.0)
    contrast: float = 1.0
    saturation: float = 1.0
    vignette: float = 0.0
    blur_px: float = 0.0
    motion_px: tuple[float, float] = (0.0, 0.0)
    noise: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Instance:
    """Parts of one object and where it stands.  transform: (4, 4) object to world."""

    family: str
    parts: tuple[Part, ...]
    transform: Array
    fixed: bool = False
    """Walls and ground: never removed for standing too near the camera."""

    def bounds(self) -> tuple[Array, Array]:
        """World-axis corner points (low, high) of what the parts fill."""
        points = np.concatenate([p.mesh.triangles.reshape(-1, 3) for p in self.parts])
        low, high = points.min(0), points.max(0)
        corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
        world = corners @ self.transform[:3, :3].T + self.transform[:3, 3]
        return world.min(0), world.max(0)


@dataclass(frozen=True)
class Geometry:
    """All triangles of a scene in camera space, opaque ones first.

    triangles, normals: (T, 3, 3) float32.  uv: (T, 3, 2) float32, texture repeats.  material: (T,) int32 into
    `materials`.  opaque_count: how many of the first triangles are opaque.
    """

    triangles: NDArray[np.float32]
    normals: NDArray[np.float32]
    uv: NDArray[np.float32]
    material: NDArray[np.int32]
    materials: tuple[Material, ...]
    opaque_count: int

    @cached_property
    def surface(self) -> NDArray[np.uint8]:
        """(T,) Surface of each triangle."""
        kinds = np.array([int(m.surface) for m in self.materials], dtype=np.uint8)
        return kinds[self.material]

    @cached_property
    def mirror_plane(self) -> Array | None:
        """(4,) unit normal and offset (n . p = d) of the largest flat mirror, or None."""
        chosen = np.flatnonzero(self.surface == Surface.MIRROR)
        if len(chosen) == 0:
            return None
        triangles = self.triangles[chosen].astype(np.float64)
        facing = cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        best = int(np.argmax((facing * facing).sum(-1)))
        normal = facing[best] / np.linalg.norm(facing[best])
        return np.append(normal, normal @ triangles[best, 0])


@dataclass(frozen=True)
class Scene:
    """Everything a renderer needs. `kind` names the layout it was made by."""

    kind: str
    instances: tuple[Instance, ...]
    camera: Camera
    lights: tuple[Light, Light]
    environment: Environment
    film: Film

    @property
    def families(self) -> tuple[str, ...]:
        """Sorted names of the object families present (walls and ground excluded)."""
        return tuple(sorted({i.family for i in self.instances if not i.fixed}))

    @cached_property
    def geometry(self) -> Geometry:
        """The camera-space triangles (see Geometry). Degenerate ones are dropped."""
        to_camera = np.eye(4)
        to_camera[:3, :3] = self.camera.rotation
        to_camera[:3, 3] = -self.camera.rotation @ self.camera.position
        index: dict[Material, int] = {}
        local, world, normals, ids, scales = [], [], [], [], []
        for instance in self.instances:
            matrix = to_camera @ instance.transform
            linear = matrix[:3, :3]
            inverse = np.linalg.inv(linear)
            stretch = float(np.abs(np.linalg.det(linear))) ** (1 / 3)
            for mesh, material in instance.parts:
                local.append(mesh.triangles)
                world.append(mesh.triangles @ linear.T + matrix[:3, 3])
                normals.append(mesh.normals @ inverse)
                number = index.setdefault(material, len(index))
                ids.append(np.full(len(mesh), number, dtype=np.int32))
                scales.append(np.full(len(mesh), stretch / material.texture_scale_m))
        object_space, scale = np.concatenate(local), np.concatenate(scales)
        triangles = np.concatenate(world).astype(np.float32)
        normal = np.concatenate(normals)
        normal /= np.maximum(np.sqrt((normal * normal).sum(-1, keepdims=True)), 1e-12)
        material_of = np.concatenate(ids)
        materials = tuple(index)

        special = np.array([m.surface != Surface.OPAQUE for m in materials])[material_of]
        edges = triangles[:, 1:].astype(np.float64) - triangles[:, :1]
        area = cross(edges[:, 0], edges[:, 1])
        keep = (area * area).sum(-1) > 1e-18
        order = np.concatenate([np.flatnonzero(keep & ~special), np.flatnonzero(keep & special)])
        return Geometry(
            triangles=np.ascontiguousarray(triangles[order]),
            normals=normal[order].astype(np.float32),
            uv=_box_projection(object_space[order], scale[order]),
            material=material_of[order],
            materials=materials,
            opaque_count=int((keep & ~special).sum()),
        )


def _box_projection(triangles: Array, scale: Array) -> NDArray[np.float32]:
    """Texture coordinates by projecting each triangle along its dominant axis: (T, 3, 3), (T,) -> (T, 3, 2)."""
    axis = np.abs(cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])).argmax(-1)
    first = np.where(axis == 0, 1, 0)
    second = np.where(axis == 2, 1, 2)
    rows = np.arange(len(triangles))
    uv = np.stack([triangles[rows, :, first], triangles[rows, :, second]], axis=-1)
    return (uv * scale[:, None, None]).astype(np.float32)
