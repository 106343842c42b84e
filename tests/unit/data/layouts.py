"""Tiny data sets in the exact on-disk formats, written by libraries, beside the depth they mean.

Every writer returns {image path: z-depth in metres (inf = sky, nan = unknown)}, computed here from the scene, not by
any reader of datk.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import h5py
import numpy as np
import OpenEXR
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

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


def kitti(root: Path) -> Truth:
    drive = "2011_09_26_drive_0002_sync"
    truth: Truth = {}
    for frame in range(4):
        image = root / "2011_09_26" / drive / "image_02" / "data" / f"{frame:010d}.png"
        save_picture(image, frame)
        if frame >= 2:  # the first frames of a drive have no ground truth
            z = np.round(scene(frame) * 256) / 256
            z[::3] = np.nan
            path = root / "val" / drive / "proj_depth" / "groundtruth" / "image_02" / f"{frame:010d}.png"
            save_png16(path, np.nan_to_num(z * 256))
            truth[image.relative_to(root).as_posix()] = z
    return truth


def nyuv2(root: Path) -> Truth:
    """MATLAB writes columns first: a (480, 640, 3, n) array lies in the file as (n, 3, 640, 480)."""
    from scipy.io import savemat

    root.mkdir(parents=True, exist_ok=True)
    z = np.stack([scene(i) for i in range(3)], axis=-1)  # (H, W, n), as MATLAB has it
    z[4, 5, 0] = np.nan
    images = np.stack([picture(i) for i in range(3)], axis=-1)  # (H, W, 3, n)
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = images.transpose(3, 2, 1, 0)
        file["rawDepths"] = np.nan_to_num(z).transpose(2, 1, 0).astype(np.float32)
        file["depths"] = np.full_like(z, 3.0).transpose(2, 1, 0).astype(np.float32)
        references = []
        for i in range(3):
            name = file.create_dataset(f"#refs#/s{i}", data=np.array([[ord(c)] for c in f"kitchen_{i:04d}"], np.uint16))
            references.append(name.ref)
        file.create_dataset("scenes", data=np.array([references], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
    savemat(root / "splits.mat", {"trainNdxs": np.array([[2]]), "testNdxs": np.array([[1], [3]])})
    return {f"{i + 1:04d}": z[..., i] for i in range(3)}


def sintel(root: Path) -> Truth:
    truth: Truth = {}
    for number in (1, 2):
        image = root / "training" / "final" / "alley_1" / f"frame_{number:04d}.png"
        save_picture(image, number)
        save_picture(root / "training" / "clean" / "alley_1" / f"frame_{number:04d}.png", number)
        z = scene(number)
        path = root / "training" / "depth" / "alley_1" / f"frame_{number:04d}.dpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(struct.pack("<f", 202021.25) + struct.pack("<ii", z.shape[1], z.shape[0]))
            for row in z:
                file.write(struct.pack(f"<{len(row)}f", *row))
        truth[image.relative_to(root).as_posix()] = z
    return truth


def moge(root: Path) -> Truth:
    """Written by Pillow after MoGe's description: logarithmic, 0 unknown, 65535 infinite."""
    truth: Truth = {}
    for name in ("room/a", "room/b"):
        z = scene(len(truth) + 1)
        z[0, :5], z[1, :4] = np.nan, np.inf
        save_picture(root / name / "image.jpg", len(truth))
        near, far = np.nanmin(z), z[np.isfinite(z)].max()
        finite = np.where(np.isfinite(z), z, near)
        code = 1 + np.round(np.log(finite / near) / np.log(far / near) * 65533)
        code = np.where(np.isnan(z), 0, np.where(np.isinf(z), 65535, code)).astype(np.uint16)
        info = PngImagePlugin.PngInfo()
        for key, value in (("near", near), ("far", far), ("unit", 1.0)):
            info.add_text(key, str(value))
        Image.fromarray(code).save(root / name / "depth.png", pnginfo=info)
        truth[f"{name}/image.jpg"] = z
    (root / ".index.txt").write_text("room/a\nroom/b\n")
    return truth


def rgbd(root: Path) -> Truth:
    z = np.round(scene(1) * 5000) / 5000
    z[0, :5] = np.nan
    save_picture(root / "images" / "hall" / "a.jpg")
    save_png16(root / "depth" / "hall" / "a.png", np.where(np.isnan(z), 0, np.round(z * 5000)))
    (root / "rgbd.json").write_text(json.dumps({"quantity": "depth", "unit": 0.0002, "licence": "own"}))
    return {"images/hall/a.jpg": z}


def eth3d(root: Path) -> Truth:
    image = root / "courtyard" / "images" / "dslr_images" / "DSC_0286.JPG"
    image.parent.mkdir(parents=True, exist_ok=True)
    turned = Image.Exif()
    turned[0x112] = 6  # says "turn me"; the depth map does not
    Image.fromarray(picture(0)).save(image, "JPEG", exif=turned)
    z = scene(0)
    z[7, 8] = np.nan
    path = root / "courtyard" / "ground_truth_depth" / "dslr_images" / "DSC_0286.JPG"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.where(np.isnan(z), np.inf, z).astype("<f4").tofile(path)
    return {image.relative_to(root).as_posix(): z}


def diode(root: Path) -> Truth:
    truth: Truth = {}
    for domain in ("indoors", "outdoor"):
        base = root / "val" / domain / "scene_00019" / "scan_00183" / f"00019_00183_{domain}_000_010"
        image = base.with_name(f"{base.name}.png")
        save_picture(image)
        z = scene(3)
        stored, mask = z.copy(), np.ones(z.shape)
        mask[:3] = 0
        stored[:3], z[:3] = 99.0, np.nan
        save_npy(base.with_name(f"{base.name}_depth.npy"), stored[..., None].astype(np.float32))
        save_npy(base.with_name(f"{base.name}_depth_mask.npy"), mask)
        truth[image.relative_to(root).as_posix()] = z
    return truth


def diml(root: Path) -> Truth:
    truth: Truth = {}
    z = np.round(scene(1), 3)
    z[0, 0] = np.nan
    indoor = root / "indoor" / "test" / "LR" / "1. Cafe"
    image = indoor / "color" / "in_00_160225_204756_c.png"
    save_picture(image)
    save_png16(indoor / "depth_filled" / "in_00_160225_204756_depth_filled.png", np.nan_to_num(z * 1000).round())
    truth[image.relative_to(root).as_posix()] = z
    full = root / "indoor" / "16. Billiard Hall" / "170101" / "B1"
    image = full / "col" / "in_k_01_c.png"
    save_picture(image)
    save_png16(full / "up_png" / "in_k_01_ud.png", np.nan_to_num(z * 1000).round())
    truth[image.relative_to(root).as_posix()] = z
    outdoor = root / "outdoor" / "test" / "LR"
    image = outdoor / "outleft" / "0100.png"
    save_picture(image)
    far = np.round(scene(2), 3)
    save_png16(outdoor / "depthmap" / "0100.png", (far * 1000).round())
    confidence = np.full(far.shape, 255, np.uint8)
    confidence[10:] = 100
    far[10:] = np.nan
    (outdoor / "confidencemap").mkdir()
    Image.fromarray(confidence).save(outdoor / "confidencemap" / "0100.png")
    truth[image.relative_to(root).as_posix()] = far
    return truth


def hrwsi(root: Path) -> Truth:
    """Inverse depth up to scale and shift: the depth that would give it at scale 1, shift 0."""
    truth: Truth = {}
    for split, name in (("train", "6001"), ("val", "7002")):
        image = root / split / "imgs" / f"{name}.jpg"
        save_picture(image)
        z = scene(4)
        inverse = np.round(500 / z).astype(np.uint8)
        mask = np.full(z.shape, 255, np.uint8)
        mask[-4:] = 0
        for folder, values in (("gts", inverse), ("valid_masks", mask)):
            (root / split / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(root / split / folder / f"{name}.png")
        truth[image.relative_to(root).as_posix()] = np.where(mask > 0, 1 / inverse.astype(np.float64), np.nan)
    return truth


def synthetic(root: Path) -> Truth:
    z = scene(0)
    z[:2] = np.inf
    save_picture(root / "images" / "000000.png")
    save_npy(root / "depth" / "000000.npy", z.astype(np.float32))
    item = {"image": "images/000000.png", "depth": "depth/000000.npy", "scene_kind": "room"}
    (root / "index.json").write_text(json.dumps({"schema_version": 1, "complete": True, "items": [item]}))
    return {"images/000000.png": z}


@dataclass(frozen=True)
class Written:
    """A writer, and how close in which quantity a reader must come to its truth."""

    write: Callable[[Path], Truth]
    tolerance: float = 1e-6
    quantity: str = "depth_m"


WRITERS: dict[str, Written] = {
    "blendedmvs": Written(blendedmvs, quantity="depth_unscaled"),
    "diml": Written(diml),
    "diode": Written(diode),
    "eth3d": Written(eth3d),
    "hrwsi": Written(hrwsi, quantity="disparity_relative"),
    "hypersim": Written(hypersim, 1e-5),
    "irs": Written(irs, 1e-5),
    "kitti": Written(kitti),
    "moge": Written(moge, 1e-4),
    "nyuv2": Written(nyuv2),
    "rgbd": Written(rgbd, 1e-4),
    "sintel": Written(sintel),
    "synthetic": Written(synthetic),
    "tartanair": Written(tartanair),
    "vkitti2": Written(vkitti2),
}
