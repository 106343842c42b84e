"""Triangle meshes as plain arrays, and the primitives every object family is made of.

World axes: x and y along the ground, z up, metres. A mesh is a triangle soup; sharing vertices would save little
at a few thousand triangles and would make flat shading and per-face texturing harder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Mesh:
    """Triangles and their shading normals.

    triangles: (T, 3, 3) float64 vertex positions, metres.  normals: (T, 3, 3) float64, unit length, one per corner.
    """

    triangles: Array
    normals: Array

    def __len__(self) -> int:
        return len(self.triangles)

    def transformed(self, matrix: Array) -> Mesh:
        """Apply a (4, 4) affine matrix; normals by the inverse transpose."""
        linear = matrix[:3, :3]
        normals = self.normals @ np.linalg.inv(linear)
        length = np.sqrt((normals * normals).sum(-1, keepdims=True))
        return Mesh(self.triangles @ linear.T + matrix[:3, 3], normals / np.maximum(length, 1e-12))


def cross(a: Array, b: Array) -> Array:
    """Cross product along the last axis; several times faster than NumPy's for many short vectors."""
    result = np.empty(np.broadcast_shapes(a.shape, b.shape))
    for i, (j, k) in enumerate(((1, 2), (2, 0), (0, 1))):
        result[..., i] = a[..., j] * b[..., k] - a[..., k] * b[..., j]
    return result


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh holding the triangles of all."""
    return Mesh(np.concatenate([m.triangles for m in meshes]), np.concatenate([m.normals for m in meshes]))


def flat(triangles: Array) -> Mesh:
    """Mesh with face normals from (T, 3, 3) triangles."""
    triangles = np.asarray(triangles, dtype=np.float64)
    face = cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    face /= np.maximum(np.sqrt((face * face).sum(-1, keepdims=True)), 1e-12)
    return Mesh(triangles, np.repeat(face[:, None], 3, axis=1))


# --- affine matrices -------------------------------------------------------------------------------------------------


def translation(x: float, y: float, z: float) -> Array:
    """(4, 4) translation, metres."""
    matrix = np.eye(4)
    matrix[:3, 3] = (x, y, z)
    return matrix


def scaling(x: float, y: float, z: float) -> Array:
    """(4, 4) scaling along the axes."""
    return np.diag([x, y, z, 1.0])


def rotation(axis: str, angle_rad: float) -> Array:
    """(4, 4) rotation about x, y or z."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(4)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def random_rotation(rng: np.random.Generator) -> Array:
    """(4, 4) rotation, uniform over all orientations (Shoemake 1992, quaternions)."""
    q = rng.normal(size=4)
    w, x, y, z = q / np.linalg.norm(q)
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return matrix


# --- primitives ------------------------------------------------------------------------------------------------------

_CUBE_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_CUBE_FACES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
_CUBE_TRIANGLES = _CUBE_CORNERS[np.concatenate([_CUBE_FACES[:, [0, 1, 2]], _CUBE_FACES[:, [0, 2, 3]]])]
_CUBE = flat(_CUBE_TRIANGLES)


def boxes(centres: Array, sizes: Array) -> Mesh:
    """Axis-aligned boxes, vectorised.  centres, sizes: (N, 3) metres."""
    centres, sizes = np.atleast_2d(centres), np.atleast_2d(sizes)
    centres, sizes = np.broadcast_arrays(centres, sizes)
    triangles = _CUBE.triangles[None] * sizes[:, None, None] + centres[:, None, None]  # (N, 12, 3, 3)
    normals = np.broadcast_to(_CUBE.normals, triangles.shape)
    return Mesh(triangles.reshape(-1, 3, 3), normals.reshape(-1, 3, 3))


def box(width: float, depth: float, height: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Mesh:
    """One box of (x, y, z) extents in metres."""
    return boxes(np.array([centre]), np.array([[width, depth, height]]))


def quad(corners: Array) -> Mesh:
    """Flat quadrilaterals.  corners: (N, 4, 3) or (4, 3), in order round the edge."""
    corners = np.asarray(corners, dtype=np.float64).reshape(-1, 4, 3)
    return flat(np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]]))


def _grid_triangles(points: Array) -> Array:
    """(R, C, 3) grid of points -> (2 (R-1) (C-1), 3, 3) triangles."""
    a, b, c, d = points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]
    first = np.stack([a, b, c], axis=2).reshape(-1, 3, 3)
    second = np.stack([a, c, d], axis=2).reshape(-1, 3, 3)
    return np.concatenate([first, second])


def grid(points: Array, *, smooth: bool = True) -> Mesh:
    """Surface through an (R, C, 3) grid of points, smooth or faceted."""
    if not smooth:
        return flat(_grid_triangles(points))
    along_row = np.gradient(points, axis=1)
    along_column = np.gradient(points, axis=0)
    normals = cross(along_row, along_column)
    normals /= np.maximum(np.sqrt((normals * normals).sum(-1, keepdims=True)), 1e-12)
    return Mesh(_grid_triangles(points), _grid_triangles(normals))


def lathe(profile: Array, *, segments: int = 20) -> Mesh:
    """Surface of revolution about z.  profile: (P, 2) of (radius, z) in metres, from bottom to top."""
    profile = np.asarray(profile, dtype=np.float64)
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)  # (S, 2)
    points = np.concatenate(
        [
            profile[:, None, :1] * circle[None],
            np.broadcast_to(profile[:, None, 1:], (len(profile), segments + 1, 1)),
        ],
        axis=-1,
    )  # (P, S, 3)
    tangent = np.gradient(profile, axis=0)
    outward = np.stack([tangent[:, 1], -tangent[:, 0]], axis=-1)
    outward /= np.maximum(np.linalg.norm(outward, axis=-1, keepdims=True), 1e-12)
    normals = np.concatenate(
        [
            outward[:, None, :1] * circle[None],
            np.broadcast_to(outward[:, None, 1:], (len(profile), segments + 1, 1)),
        ],
        axis=-1,
    )
    return Mesh(_grid_triangles(points), _grid_triangles(normals))


def cylinder(radius: float, height: float, *, segments: int = 16, top_radius: float | None = None) -> Mesh:
    """Closed cylinder or truncated cone standing on z = 0."""
    top = radius if top_radius is None else top_radius
    side = lathe(np.array([[radius, 0.0], [top, height]]), segments=segments)
    caps = [lathe(np.array([[0.0, z], [r, z]]), segments=segments) for r, z in ((radius, 0.0), (top, height)) if r > 0]
    return merge([side, *caps])


def sphere(radius: float, *, segments: int = 16, rings: int = 10) -> Mesh:
    """Sphere about the origin."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, rings)
    return lathe(radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1), segments=segments)


def tubes(starts: Array, ends: Array, radius: float | Array, *, segments: int = 6) -> Mesh:
    """Straight round bars, vectorised.  starts, ends: (N, 3); radius: metres, scalar or (N,)."""
    starts, ends = np.atleast_2d(starts), np.atleast_2d(ends)
    axis = ends - starts
    axis = axis / np.maximum(np.linalg.norm(axis, axis=-1, keepdims=True), 1e-12)
    helper = np.where(np.abs(axis[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    side = cross(axis, helper)
    side /= np.linalg.norm(side, axis=-1, keepdims=True)
    other = cross(axis, side)
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    ring = side[:, None] * np.cos(angle)[:, None] + other[:, None] * np.sin(angle)[:, None]  # (N, S, 3)
    thick = np.broadcast_to(np.asarray(radius, dtype=np.float64), (len(starts),))[:, None, None]
    lower, upper = starts[:, None] + thick * ring, ends[:, None] + thick * ring

    def strip(low: Array, high: Array) -> Array:
        first = np.stack([low[:, :-1], low[:, 1:], high[:, 1:]], axis=2)
        second = np.stack([low[:, :-1], high[:, 1:], high[:, :-1]], axis=2)
        return np.concatenate([first.reshape(-1, 3, 3), second.reshape(-1, 3, 3)])

    return Mesh(strip(lower, upper), strip(ring, ring))


def path_tube(points: Array, radius: float, *, segments: int = 6) -> Mesh:
    """Round bar along an open or closed polyline.  points: (P, 3)."""
    return tubes(points[:-1], points[1:], radius, segments=segments)


def ring(radius: float, thickness: float, *, segments: int = 28, sides: int = 8) -> Mesh:
    """Torus about the y axis (a wheel standing upright, its hub at the origin)."""
    around = np.linspace(0, 2 * np.pi, segments + 1)
    across = np.linspace(0, 2 * np.pi, sides + 1)
    direction = np.stack([np.cos(around), np.zeros_like(around), np.sin(around)], axis=-1)[:, None]  # (S, 1, 3)
    normal = np.cos(across)[None, :, None] * direction + np.sin(across)[None, :, None] * np.array([0.0, 1.0, 0.0])
    points = radius * direction + thickness * normal
    return Mesh(_grid_triangles(points), _grid_triangles(np.broadcast_to(normal, points.shape)))


def extrude(outline: Array, depth: float) -> Mesh:
    """Prism of a star-shaped outline (P, 2) in the xz plane, `depth` metres along y, centred."""
    outline = np.asarray(outline, dtype=np.float64)
    closed = np.concatenate([outline, outline[:1]])
    front = np.stack([closed[:, 0], np.full(len(closed), -depth / 2), closed[:, 1]], axis=-1)
    back = front + np.array([0.0, depth, 0.0])
    middle_front = np.broadcast_to(front[:-1].mean(0), front[:-1].shape)
    middle_back = np.broadcast_to(back[:-1].mean(0), back[:-1].shape)
    caps = np.concatenate(
        [np.stack([middle_front, front[:-1], front[1:]], 1), np.stack([middle_back, back[1:], back[:-1]], 1)]
    )
    sides = np.stack([front[:-1], back[:-1], back[1:], front[1:]], axis=1)
    return merge([flat(caps), quad(sides)])
