"""NYU Depth v2, the labelled part: 1,449 Kinect pictures in one MATLAB file, or unpacked as others' scripts do.

Sources: the set's own page (nyu_depth_v2_labeled.mat, splits.mat); the layout official_splits/ is that of the BTS and
ZoeDepth loaders.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datk.data.adapters.base import Adapter, Item, Scan, items_of
from datk.data.adapters.layout import Layout, match_layouts
from datk.data.depth_files import read_png16
from datk.data.sample import Sample
from datk.depth.preprocess import read_image
from datk.errors import DataError, EnvironmentLacks

MAT, SPLITS = "nyu_depth_v2_labeled.mat", "splits.mat"
TITLE, HOME = "NYU Depth v2", "https://cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html"


def find(root: Path) -> Scan:
    """The numbers of the .mat file (splits from splits.mat beside it), else pairs of official_splits/."""
    if not (root / MAT).is_file():
        matched = match_layouts(root, LAYOUTS, title=TITLE, home=HOME)
        items = items_of(root, matched.pairs)
        return Scan(root=root, items=items, missing=matched.missing, layout=matched.layouts[0].shown)
    h5py = _h5py()
    with _opened(h5py, root / MAT) as file:
        lacks = [name for name in ("images", "rawDepths") if name not in file]
        if lacks:
            raise DataError(f"{root / MAT}: no {' and no '.join(lacks)} in it", hint=f"get it from {HOME}")
        count = len(file["images"])
        scenes = [_text(file, file["scenes"][0, i]) if "scenes" in file else "" for i in range(count)]
    split_of = _splits(root / SPLITS) if (root / SPLITS).is_file() else {}
    items = tuple(
        Item(
            key=f"{i + 1:04d}",
            root=root,
            files=(MAT, MAT),
            names=("number",),
            values=(str(i),),
            scene=scenes[i],
            split=split_of.get(i + 1, ""),
        )
        for i in range(count)
    )
    return Scan(root=root, items=items, layout=f"{MAT} (+ {SPLITS})")


def read(item: Item) -> Sample:
    """Metres of the sensor (rawDepths, not the filled-in `depths`); 0 is unknown. From PNG: millimetres."""
    if item.depth.name != MAT:
        raw = (read_png16(item.depth) / np.float32(1000)).astype(np.float32)
        image = read_image(item.image)
    else:
        number = int(item.fields["number"])
        with _opened(_h5py(), item.depth) as file:
            raw = np.asarray(file["rawDepths"][number], np.float32).T  # stored (width, height)
            image = np.ascontiguousarray(np.asarray(file["images"][number], np.uint8).transpose(2, 1, 0))
    depth_m = np.where(raw > 0, raw, np.nan).astype(np.float32)
    return Sample(name=item.key, image=image, depth_m=depth_m)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise EnvironmentLacks(f"reading {MAT} needs the package h5py", hint='pip install "datk[data]"') from error
    return h5py


def _opened(h5py: Any, path: Path) -> Any:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: not a readable MATLAB 7.3 file ({error})", hint=f"get it from {HOME}") from error


def _text(file: Any, reference: Any) -> str:
    return "".join(chr(c) for c in np.asarray(file[reference]).ravel())


def _splits(path: Path) -> dict[int, str]:
    """Number from 1 -> train or test."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise EnvironmentLacks(f"reading {SPLITS} needs the package scipy", hint='pip install "datk[data]"') from error
    try:
        table = loadmat(path)
        return {
            int(n): split for split, key in (("train", "trainNdxs"), ("test", "testNdxs")) for n in table[key].ravel()
        }
    except (KeyError, ValueError, OSError) as error:
        raise DataError(f"{path}: not the official splits.mat ({error})", hint=f"get it from {HOME}") from error


LAYOUTS = (
    Layout(
        image="official_splits/{split}/{scene}/rgb_{frame}.jpg",
        depth="official_splits/{split}/{scene}/sync_depth_{frame}.png",
        fields={"split": "train|test", "frame": r"\d+"},
        scene="{scene}",
        split="{split}",
    ),
    Layout(
        image="{split}/{scene}/rgb_{frame}.jpg",
        depth="{split}/{scene}/sync_depth_{frame}.png",
        fields={"split": "train|test", "frame": r"\d+"},
        scene="{scene}",
        split="{split}",
    ),
    Layout(
        image="{scene}/rgb_{frame}.jpg",
        depth="{scene}/sync_depth_{frame}.png",
        fields={"scene": r"[a-z_]+_\d{4}[a-z]?", "frame": r"\d+"},
        scene="{scene}",
        split="train",
        note="sync/: the raw training scenes, as BTS and ZoeDepth learn from",
    ),
)

ADAPTER = Adapter(
    name="nyuv2",
    title=TITLE,
    role="evaluate",
    scenes="indoor",
    licence="not stated by its authors",
    home=HOME,
    depth="MATLAB 7.3 (HDF5) rawDepths, metres; or 16-bit PNG, millimetres; 0 = unknown",
    layouts=(
        Layout(image=f"{MAT}", depth=SPLITS, note="one file with every picture, splits.mat beside it"),
        *LAYOUTS,
    ),
    read=read,
    find=find,
    splits_hint=f"put {SPLITS} beside {MAT}: it says train and test",
    paper_images=654,
    size=(480, 640),
    modules=("h5py", "scipy"),
    traps=(
        "`depths` is filled in by a colourisation method; rawDepths is what the sensor saw, and what published figures "
        "are reproduced with",
        "MATLAB stores columns first: every array comes transposed",
        "splits.mat counts from 1",
        "pictures have a white frame; the Eigen crop [45:471, 41:601] belongs to the metric",
        "official_splits/train holds 795 pictures; the 24,231 of in-domain training are a list of sync/",
        "a sync_depth PNG does not say which of the two fields it was made from",
    ),
)
