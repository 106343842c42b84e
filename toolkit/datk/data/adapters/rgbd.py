"""Your own photographs with measured depth: images/, depth/ and rgbd.json, which says what the numbers mean.

rgbd.json: {"quantity": "depth" | "disparity", "unit": 0.001, "invalid": [0], "licence": "..."}; unit: metres (or, for
disparity, pixels) of one stored unit: 1/256 = 0.00390625 for KITTI's PNGs, 0.001 for millimetres, 0.0002
for TUM's 5000, 1 for floats in metres. Never guessed: without the file the folder is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datk.data.adapters.base import Adapter, Item, Scan
from datk.data.adapters.layout import Layout, Missing, check_not_below
from datk.data.depth_files import FloatMap, read_npy, read_pfm, read_png16
from datk.data.sample import Sample
from datk.depth.preprocess import list_images, read_image
from datk.errors import DataError

INDEX = "rgbd.json"
ENDINGS = (".png", ".npy", ".pfm")
EXAMPLE = '{"quantity": "depth", "unit": 0.001, "invalid": [0]}'


class Meaning(BaseModel):
    """rgbd.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    quantity: Literal["depth", "disparity"]
    unit: float = Field(gt=0)
    invalid: tuple[float, ...] = (0.0,)
    """Stored values that mean unknown; nan always does. Of depth, inf is sky; of disparity, unknown."""
    licence: str = "not stated"


def meaning_of(root: Path) -> Meaning:
    """Read rgbd.json. Raises DataError saying what to write when it is absent or says something else."""
    path = root / INDEX
    try:
        return Meaning.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(
            f"{path}: missing: what the depth files mean is never guessed", hint=f"write {EXAMPLE}"
        ) from error
    except (ValueError, ValidationError) as error:
        raise DataError(f"{path}: not a description of depth files ({error})", hint=f"write {EXAMPLE}") from error


def find(root: Path) -> Scan:
    """Pictures below images/ with a depth file of the same name below depth/, a mask below mask/ where there is one."""
    check_not_below(root, INDEX, ADAPTER.title)
    meaning_of(root)
    items, missing = [], []
    for image in list_images(root / "images"):
        name = image.relative_to(root / "images").with_suffix("")
        found = [f for f in _beside(root / "depth", name) if f.is_file()]
        key = image.relative_to(root).as_posix()
        if len(found) > 1:
            raise DataError(f"{root}: two depth files for {key}: {found[0].name} and {found[1].name}")
        if not found:
            missing.append(Missing(key, "depth map", f"depth/{name}.png, .npy or .pfm"))
            continue
        mask = [f for f in _beside(root / "mask", name) if f.is_file()][:1]
        files = tuple(f.relative_to(root).as_posix() for f in (image, found[0], *mask))
        scene = name.parent.as_posix() if name.parent != Path() else ""
        items.append(Item(key=key, root=root, files=files, roles=("mask",) if mask else (), scene=scene))
    return Scan(root=root, items=tuple(items), missing=tuple(missing), layout=LAYOUT.shown)


def read(item: Item) -> Sample:
    """Depth in metres, or disparity in pixels, as rgbd.json says; outside the mask unknown."""
    meaning = meaning_of(item.root)
    stored = _read_map(item.depth)
    values = np.where(np.isin(stored, meaning.invalid), np.nan, stored.astype(np.float64) * meaning.unit)
    if (mask := item.extra.get("mask")) is not None:
        inside = _read_mask(mask)
        if inside.shape != stored.shape:
            raise DataError(f"{mask}: mask is {inside.shape}, depth is {stored.shape}")
        values = np.where(inside > 0, values, np.nan)
    image = read_image(item.image, upright=False)
    if meaning.quantity == "depth":
        return Sample(name=item.key, image=image, depth_m=values.astype(np.float32), licence=meaning.licence)
    known = np.where(np.isfinite(values), values, np.nan)
    return Sample(name=item.key, image=image, disparity_px=known.astype(np.float32), licence=meaning.licence)


def _beside(folder: Path, name: Path) -> list[Path]:
    return [folder / name.parent / f"{name.name}{ending}" for ending in ENDINGS]


def _read_map(path: Path) -> FloatMap:
    if path.suffix == ".npy":
        return read_npy(path)
    return read_pfm(path) if path.suffix == ".pfm" else read_png16(path).astype(np.float32)


def _read_mask(path: Path) -> FloatMap:
    from datk.data.depth_files import read_grey

    return read_npy(path) if path.suffix == ".npy" else read_grey(path).astype(np.float32)


LAYOUT = Layout(
    image="images/{name}.png",
    depth="depth/{name}.png",
    note="images of any kind, depth .png (16-bit), .npy or .pfm of the same name, rgbd.json; mask/{name}.png optional",
)

ADAPTER = Adapter(
    name="rgbd",
    title="your own photographs with depth",
    role="evaluate",
    scenes="both",
    licence="as rgbd.json says",
    home="your own folder",
    depth="16-bit PNG, .npy or .pfm; quantity, unit and invalid values by rgbd.json; inf in depth = sky",
    layouts=(LAYOUT,),
    read=read,
    find=find,
    traps=(
        "unit is metres (disparity: pixels) of ONE stored unit: 0.001 for millimetres, 0.0002 for factor 5000",
        "pictures are read as stored, without EXIF rotation: depth is in those pixels",
    ),
)
