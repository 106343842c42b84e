"""Hypersim (Apple, ICCV 2021): 77,400 rendered indoor pictures; HDF5 distances to the camera's centre.

Sources: apple/ml-hypersim README and issue 45 (the intrinsics); Depth Anything V2 metric_depth/dataset/hypersim.py.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datk.data.adapters.base import Adapter, Item
from datk.data.adapters.layout import Layout
from datk.data.depth_files import read_hdf5
from datk.data.sample import Sample
from datk.depth.preprocess import read_image
from datk.errors import DataError

FOCAL_PX, FOCAL_WIDTH_PX = 886.81, 1024
"""Focal length of the common camera, for pictures 1024 wide."""
SPLIT_FILE = "metadata_images_split_scene_v1.csv"


def depth_from_distance(distance_m: NDArray[np.floating]) -> NDArray[np.float32]:
    """Depth along the optical axis from the distance to the optical centre, both (H, W) in metres.

    z = distance * f / |(x, y, f)| with pixel centres at -(N - 1) / 2 ... (N - 1) / 2; f scales with the width.
    """
    height, width = distance_m.shape
    return np.asarray(distance_m * _share_of_axis(height, width), np.float32)


@lru_cache(maxsize=4)
def _share_of_axis(height: int, width: int) -> NDArray[np.float32]:
    """(H, W): depth along the axis as a share of the distance along each pixel's ray."""
    focal = FOCAL_PX * width / FOCAL_WIDTH_PX
    x = np.arange(width) - (width - 1) / 2
    y = np.arange(height) - (height - 1) / 2
    share: NDArray[np.float32] = (focal / np.sqrt(x[None, :] ** 2 + y[:, None] ** 2 + focal**2)).astype(np.float32)
    share.setflags(write=False)
    return share


def read(item: Item) -> Sample:
    """Distances become depth; nan (no geometry: windows, openings) stays unknown, it is not sky."""
    depth_m = depth_from_distance(read_hdf5(item.depth, "dataset"))
    depth_m[~np.isfinite(depth_m)] = np.nan
    return Sample(name=item.key, image=read_image(item.image), depth_m=depth_m)


def official_split(root: Path, items: tuple[Item, ...]) -> tuple[Item, ...]:
    """Splits from the official table, where the user put it in the root; without it no item has a split."""
    table = root / SPLIT_FILE
    if not table.is_file():
        return items
    try:
        with table.open(encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
        of = {(r["scene_name"], r["camera_name"], int(r["frame_id"])): r["split_partition_name"] for r in rows}
    except (KeyError, ValueError) as error:
        raise DataError(f"{table}: not the official table ({error})", hint="fetch it again") from error

    def key(fields: Mapping[str, str]) -> tuple[str, str, int]:
        return fields["scene"], f"cam_{fields['camera']}", int(fields["frame"])

    return tuple(replace(i, split=of.get(key(i.fields), "")) for i in items)


ADAPTER = Adapter(
    name="hypersim",
    title="Hypersim",
    role="train",
    scenes="indoor",
    licence="CC BY-SA 3.0",
    home="https://github.com/apple/ml-hypersim",
    depth="HDF5 'dataset', metres to the optical centre (made z-depth when read); nan = no geometry = unknown",
    layouts=(
        Layout(
            image="{scene}/images/scene_cam_{camera}_final_preview/frame.{frame}.tonemap.jpg",
            depth="{scene}/images/scene_cam_{camera}_geometry_hdf5/frame.{frame}.depth_meters.hdf5",
            fields={"scene": r"ai_\d{3}_\d{3}", "camera": r"\d{2}", "frame": r"\d{4}"},
            scene="{scene}",
        ),
    ),
    read=read,
    split_of=official_split,
    splits_hint=f"put {SPLIT_FILE} of apple/ml-hypersim into the folder: it says train, val and test",
    paper_images=60_000,
    size=(768, 1024),
    modules=("h5py",),
    traps=(
        "depth_meters is the distance along the ray, not depth: at the corners of the picture it is 1.2 times as long",
        "a few scenes have a tilted lens; the common focal length of 886.81 px is used for all, as others do",
        "59,543 pictures are in the official training split, 7,690 in test, 7,386 in val",
    ),
)
