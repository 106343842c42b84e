"""A folder of MoGe's evaluation: one folder an image with image.jpg and depth.png, listed in .index.txt.

Source: microsoft/MoGe, its readers of depth and of evaluation data: 16-bit PNG, 0 unknown, 65535 infinite, else
near**(1-v) * far**v with v = (stored - 1) / 65533 and near, far in the PNG's text.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from datk.data.adapters.base import Adapter, Item, Scan
from datk.data.adapters.layout import Layout, Missing, check_not_below
from datk.data.depth_files import read_bytes, read_png16
from datk.data.sample import Sample
from datk.depth.preprocess import read_image
from datk.errors import DataError

INDEX = ".index.txt"
NAMES = ("image.jpg", "depth.png")
UNKNOWN, INFINITE = 0, 65535


def find(root: Path) -> Scan:
    """The folders that .index.txt lists. Raises DataError when there is no list."""
    check_not_below(root, INDEX, ADAPTER.title)
    try:
        lines = (root / INDEX).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{root / INDEX}: cannot be read ({error.strerror})", hint="a list of folders") from error
    items, missing = [], []
    for name in filter(None, (line.strip() for line in lines)):
        files = tuple(f"{name}/{file}" for file in NAMES)
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"{root / INDEX}: '{name}' leads outside the folder")
        lacks = [f for f in files if not (root / f).is_file()]
        if lacks:
            missing.append(Missing(name, "file", lacks[0]))
            continue
        items.append(Item(key=files[0], root=root, files=files, scene=Path(name).parent.as_posix().lstrip(".")))
    return Scan(root=root, items=tuple(items), missing=tuple(missing), layout=LAYOUT.shown)


def read(item: Item) -> Sample:
    """Depth in the set's own unit (its metadata names metres only where a text field `unit` does); inf is sky."""
    text = png_text(read_bytes(item.depth))
    try:
        near, far = float(text["near"]), float(text["far"])
        unit = float(text["unit"]) if "unit" in text else None
    except (KeyError, ValueError) as error:
        raise DataError(f"{item.depth}: no numbers near and far in its text ({error})", hint="copy it again") from error
    if not 0 < near <= far:
        raise DataError(f"{item.depth}: near {near:g} and far {far:g} are no range of depth")
    stored = read_png16(item.depth)
    share = (stored.astype(np.float64) - 1) / 65533
    depth = near ** (1 - share) * far**share * (unit or 1.0)
    whole = np.where(stored == UNKNOWN, np.nan, np.where(stored == INFINITE, np.inf, depth)).astype(np.float32)
    image = read_image(item.image, upright=False)
    if unit is None:
        return Sample(name=item.key, image=image, depth_unscaled=whole)
    return Sample(name=item.key, image=image, depth_m=whole)


def png_text(data: bytes) -> dict[str, str]:
    """tEXt chunks of a PNG (PNG third edition, 11.3.3.2)."""
    found, at = {}, 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if kind == b"tEXt" and b"\0" in body:
            key, _, value = body.partition(b"\0")
            found[key.decode("latin-1")] = value.decode("latin-1")
        at += 12 + length
    return found


LAYOUT = Layout(image="{name}/image.jpg", depth="{name}/depth.png", note="listed in .index.txt, one folder a line")

ADAPTER = Adapter(
    name="moge",
    title="a folder of MoGe's evaluation",
    role="evaluate",
    scenes="both",
    licence="that of each data set in it",
    home="https://github.com/microsoft/MoGe",
    depth="16-bit PNG, logarithmic between near and far in its text; 0 = unknown, 65535 = infinite",
    layouts=(LAYOUT,),
    read=read,
    find=find,
    traps=("unless the PNG's text names a unit, depth is in the set's own: no metric figures",),
)
