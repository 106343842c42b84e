"""Ray-cast oracle: first hits in float64 by Möller-Trumbore, sharing nothing with either renderer but the triangles.

No acceleration structure and no graphics library: each 8x8 tile of pixels tests every triangle whose projection may
touch it (`culled=False`: every triangle), which is slow and plain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datk.data.synthetic.scene import NEAR_M, Array, Scene, Size

_TILE = 8
_PAIRS_AT_ONCE = 400_000


@dataclass(frozen=True)
class OracleHits:
    """depth_m: (H, W) float64, inf = nothing hit.  triangle: (H, W) int64 index of the first hit, -1 = none.

    surface: (H, W) uint8 Surface of the first hit (0 for none).
    """

    depth_m: Array
    triangle: NDArray[np.int64]
    surface: NDArray[np.uint8]


@dataclass(frozen=True)
class Comparison:
    """A renderer's depth against the oracle.

    max_error_rel: largest |z - oracle| / oracle over the pixels judged.  edge_share: share of pixels set aside because
    the renderer drew a triangle that the oracle hits within `edge_px` of the pixel centre (an edge's rounding).
    wrong: pixels that are neither; 0 when the renderer is right.
    """

    max_error_rel: float
    edge_share: float
    wrong: int
    pixels: int


def cast(
    scene: Scene,
    size: Size,
    *,
    offset: tuple[float, float] = (0.0, 0.0),
    culled: bool = True,
) -> OracleHits:
    """First hits along the rays through the pixel centres, moved by `offset` (row, column) pixels.

    Möller and Trumbore, "Fast, minimum storage ray/triangle intersection", 1997; hits nearer than NEAR_M are ignored.
    """
    geometry = scene.geometry
    triangles = geometry.triangles.astype(np.float64)
    rays = scene.camera.rays(size, offset=offset)
    depth, hit = np.full(size, np.inf), np.full(size, -1, dtype=np.int64)
    low, high = _pixel_bounds(triangles, scene.camera.focal * size[0], size)
    for row in range(0, size[0], _TILE):
        for column in range(0, size[1], _TILE):
            tile = np.s_[row : row + _TILE, column : column + _TILE]
            block = rays[tile].reshape(-1, 3)
            if culled:
                end = np.array([row, column]) + _TILE
                touch = ((low < end + 1) & (high > np.array([row, column]) - 1)).all(-1)
                chosen = np.flatnonzero(touch)
            else:
                chosen = np.arange(len(triangles))
            z, which = _first(block, triangles[chosen])
            shape = rays[tile].shape[:2]
            depth[tile] = z.reshape(shape)
            hit[tile] = np.where(which >= 0, chosen[which] if len(chosen) else -1, -1).reshape(shape)
    return OracleHits(depth, hit, np.where(hit >= 0, geometry.surface[hit], 0).astype(np.uint8))


def _pixel_bounds(triangles: Array, pixel: float, size: Size) -> tuple[Array, Array]:
    """(T, 2) lowest and highest (row, column) of each projection.

    Unbounded where only some corners are in front, empty where none is.
    """
    z = triangles[..., 2]
    safe = np.maximum(z, NEAR_M)
    at = np.stack([triangles[..., 1] / safe * pixel + size[0] / 2, triangles[..., 0] / safe * pixel + size[1] / 2], -1)
    behind, gone = z.min(-1, keepdims=True) < NEAR_M, z.max(-1, keepdims=True) < NEAR_M
    low, high = np.where(behind, -np.inf, at.min(1)), np.where(behind, np.inf, at.max(1))
    return np.where(gone, np.inf, low), high


def _first(rays: Array, triangles: Array) -> tuple[Array, NDArray[np.int64]]:
    """Nearest hit of each of (R, 3) rays from the origin among (T, 3, 3) triangles: depth and index (-1 none)."""
    best, which = np.full(len(rays), np.inf), np.full(len(rays), -1, dtype=np.int64)
    step = max(1, _PAIRS_AT_ONCE // len(rays))
    for start in range(0, len(triangles), step):
        part = triangles[start : start + step]
        e1, e2 = part[:, 1] - part[:, 0], part[:, 2] - part[:, 0]
        from_corner = -part[:, 0]
        q = np.cross(from_corner, e1)
        # with p = ray x e2: det = e1 . p, u = from_corner . p / det; both are dot products with the ray
        det = rays @ np.cross(e2, e1).T
        with np.errstate(divide="ignore", invalid="ignore"):
            u = (rays @ np.cross(e2, from_corner).T) / det
            v = (rays @ q.T) / det
            t = (e2 * q).sum(-1) / det
            inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > NEAR_M)
        t = np.where(inside, t, np.inf)
        nearest = t.argmin(1)
        value = t[np.arange(len(rays)), nearest]
        closer = value < best
        best[closer], which[closer] = value[closer], nearest[closer] + start
    return best, which


def compare(
    scene: Scene, depth_m: NDArray[np.float32], *, tolerance_rel: float = 1e-5, edge_px: float = 1 / 64
) -> Comparison:
    """Judge a renderer's (H, W) depth of a scene.

    A pixel passes when it is within tolerance of the oracle at its centre. Else it is an edge pixel when its depth is
    that of a triangle whose outline passes within edge_px of the pixel centre, and nothing that surely covers the
    centre lies before it (rasterisers snap vertices to 1/256 pixel, which also moves thin triangles' outlines);
    otherwise it is wrong.
    """
    size: Size = (depth_m.shape[0], depth_m.shape[1])
    rays = scene.camera.rays(size)
    error = _error_rel(depth_m, cast(scene, size).depth_m)
    aside = np.asarray(error > tolerance_rel)
    wrong = 0
    for row, column in np.argwhere(aside):
        seen = _depths_near(scene, rays[row, column], size[0], edge_px)
        wrong += not bool((_error_rel(depth_m[row, column].reshape(1), seen) <= tolerance_rel).any())
    judged = error[~aside]
    return Comparison(
        max_error_rel=float(judged.max()) if judged.size else 0.0,
        edge_share=(int(aside.sum()) - wrong) / depth_m.size,
        wrong=wrong,
        pixels=depth_m.size,
    )


def _depths_near(scene: Scene, ray: Array, height: int, edge_px: float) -> Array:
    """(K,) depths that one (3,) ray may see when every triangle's outline may move by edge_px; inf for nothing."""
    triangles = scene.geometry.triangles.astype(np.float64)
    pixel = scene.camera.focal * height
    following = triangles[:, [1, 2, 0]]
    edges = np.cross(triangles, following)  # (T, 3, 3): planes through the eye and each edge
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    offset = (normal * triangles[:, 0]).sum(-1)
    away_px = edges @ ray / np.maximum(np.linalg.norm(edges[..., :2], axis=-1), 1e-300) * pixel
    margin_px = (away_px * np.sign(offset)[:, None]).min(-1)  # > 0 inside all three edges
    z = np.clip(offset / (normal @ ray), triangles[..., 2].min(1), triangles[..., 2].max(1))
    z = np.where(z > NEAR_M, z, np.inf)
    # beyond a sharp tip the edge lines alone say too little: stay within the corners' box too
    front = (triangles[..., 2] > NEAR_M).all(-1)
    corners = triangles[..., :2] / np.maximum(triangles[..., 2:], NEAR_M) - ray[:2]
    gap_px = np.maximum(corners.min(1), -corners.max(1)).max(-1) * pixel
    near = (margin_px > -edge_px) & (~front | (gap_px < edge_px))
    cover = z[(margin_px > edge_px) & near]
    limit = float(cover.min()) if cover.size else np.inf
    return np.append(z[near & (z <= limit)], limit)


def _error_rel(depth: Array | NDArray[np.float32], expected: Array) -> Array:
    both_sky = np.isinf(depth) & np.isinf(expected)
    with np.errstate(invalid="ignore"):
        error = np.abs(np.asarray(depth, dtype=np.float64) - expected) / expected
    error = np.where(np.isinf(depth) ^ np.isinf(expected), np.inf, error)
    return np.where(both_sky, 0.0, error)
