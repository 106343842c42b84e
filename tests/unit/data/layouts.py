"""Tiny data sets in the exact on-disk formats, written by libraries, beside the depth they mean.

Every writer returns {image path: z-depth in metres (inf = sky, nan = unknown)}, computed here from the scene, not by
any reader of datk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import h5py
import numpy as np
import OpenEXR
from numpy.typing import NDArray
from PIL import Image

Depth = NDArray[np.float64]
Truth = dict[str, Depth]
HEIGHT, WIDTH = 24, 32


def scene(seed: int, *, near: float = 2.0, far: float = 9.0, height: int = HEIGHT, width: int = WIDTH) -> Depth:
    """(H, W) z-depth of a slanted floor with a box: no symmetry, so that a flip or a transpose is seen."""
    rng = np.random.default_rng(seed)
    rows = np.linspace(far, near, height)[:, None]
    depth = rows + np.linspace(0, 1, width)[None, :] * rng.uniform(0.2, 0.8)
    depth[2:8, 3:11] = near
    return depth


def picture(seed: int, *, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 255, (4, 5, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


def save_picture(path: Path, seed: int = 0, *, height: int = HEIGHT, width: int = WIDTH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, height=height, width=width)).save(path)


def save_png16(path: Path, values: NDArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint16)).save(path)


def save_npy(path: Path, values: NDArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def hypersim(root: Path) -> Truth:
    truth: Truth = {}
    for number in range(3):
        base = root / "ai_001_002" / "images"
        name = f"frame.{number:04d}"
        image = base / "scene_cam_00_final_preview" / f"{name}.tonemap.jpg"
        save_picture(image, number)
        z = scene(number)
        z[0, 5] = np.nan
        path = base / "scene_cam_00_geometry_hdf5" / f"{name}.depth_meters.hdf5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file.create_dataset("dataset", data=distance_by_rays(z).astype(np.float32), compression="gzip")
        truth[image.relative_to(root).as_posix()] = z
    return truth


def distance_by_rays(z: Depth) -> Depth:
    """Distance to the camera of the point at depth z on each pixel's ray, ray by ray in 3-D.

    Hypersim's field of view is 60 degrees across 1024 pixels: f = 512 / tan(30 degrees) = 886.81.
    """
    height, width = z.shape
    focal = (width / 2) / np.tan(np.radians(30))
    out = np.empty_like(z)
    for row in range(height):
        for column in range(width):
            ray = np.array([column + 0.5 - width / 2, row + 0.5 - height / 2, focal])
            point = ray / ray[2] * z[row, column]
            out[row, column] = np.linalg.norm(point)
    return out


def vkitti2(root: Path) -> Truth:
    truth: Truth = {}
    for scene_name, variant in (("Scene01", "clone"), ("Scene20", "15-deg-left")):
        frames = root / scene_name / variant / "frames"
        image = frames / "rgb" / "Camera_0" / "rgb_00000.jpg"
        save_picture(image)
        save_picture(frames / "rgb" / "Camera_1" / "rgb_00000.jpg")
        z = np.round(scene(1), 2)
        z[:2] = np.inf
        z[0, 0] = 655.34
        centimetres = np.where(np.isinf(z), 65535, np.round(z * 100))
        save_png16(frames / "depth" / "Camera_0" / "depth_00000.png", centimetres)
        save_png16(frames / "depth" / "Camera_1" / "depth_00000.png", centimetres)
        truth[image.relative_to(root).as_posix()] = z
    return truth


def irs(root: Path) -> Truth:
    truth: Truth = {}
    for number, kind in enumerate(("Home/ModernHouse", "Office/Room2_Dark")):
        image = root / kind / f"l_{number + 1:05d}.png"
        save_picture(image, number)
        save_picture(image.with_name(f"r_{number + 1:05d}.png"), number)
        z = scene(number)
        disparity = 480 * 0.1 / z
        disparity[3, 4] = 0
        z[3, 4] = np.nan
        save_exr(image.with_name(f"d_{number + 1:05d}.exr"), disparity, channels="G" if number == 0 else "RGB")
        save_exr(image.with_name(f"n_{number + 1:05d}.exr"), disparity, channels="RGB")
        truth[image.relative_to(root).as_posix()] = z
    return truth


def save_exr(path: Path, values: NDArray, *, channels: str = "G") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    plane = values.astype(np.float32)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    other = np.full_like(plane, -1)
    data = {c: plane if c == "G" or len(channels) == 1 else other for c in channels}
    with OpenEXR.File(header, data) as file:
        file.write(str(path))


def tartanair(root: Path) -> Truth:
    truth: Truth = {}
    for environment, number in (("abandonedfactory", 0), ("amusement", 1), ("neighborhood", 2)):
        base = root / environment / "Easy" / "P001"
        image = base / "image_left" / f"{number:06d}_left.png"
        save_picture(image, number)
        z = scene(number).astype(np.float32).astype(np.float64)
        stored = z.copy()
        stored[0, :5], z[0, :5] = 14_523.0, np.inf
        stored[1, 0], z[1, 0] = 0, np.nan
        save_npy(base / "depth_left" / f"{number:06d}_left_depth.npy", stored.astype(np.float32))
        if environment != "amusement":
            truth[image.relative_to(root).as_posix()] = z
    return truth


def blendedmvs(root: Path) -> Truth:
    truth: Truth = {}
    for number in range(2):
        base = root / "5a3ca9cb270f0e3f14d0eddb"
        image = base / "blended_images" / f"{number:08d}.jpg"
        save_picture(image, number)
        save_picture(image.with_name(f"{number:08d}_masked.jpg"), number)
        z = scene(number).astype(np.float32).astype(np.float64)
        stored = np.where(np.isfinite(z), z, 0).astype(np.float32)
        stored[5, 6], z[5, 6] = 0, np.nan
        path = base / "rendered_depth_maps" / f"{number:08d}.pfm"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), stored)
        truth[image.relative_to(root).as_posix()] = z
    return truth


@dataclass(frozen=True)
class Written:
    """A writer and what its truth is: metres within this tolerance (None: a unit of the scene's own)."""

    write: Callable[[Path], Truth]
    tolerance: float
    unit: str = "m"


WRITERS: dict[str, Written] = {
    "hypersim": Written(hypersim, 1e-5),
    "vkitti2": Written(vkitti2, 1e-5),
    "irs": Written(irs, 1e-5),
    "tartanair": Written(tartanair, 1e-6),
    "blendedmvs": Written(blendedmvs, 1e-6, unit="scene"),
}
