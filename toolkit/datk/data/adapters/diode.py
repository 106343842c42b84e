"""DIODE: indoor and outdoor laser-scan depth; val has 325 indoor and 446 outdoor pictures.

Source: diode-dataset/diode-devkit README.
"""

from __future__ import annotations

import numpy as np

from datk.data.adapters.base import Adapter, Item
from datk.data.adapters.layout import Layout
from datk.data.depth_files import read_npy
from datk.data.sample import Sample
from datk.depth.preprocess import read_image
from datk.errors import DataError


def read(item: Item) -> Sample:
    """Metres where the mask is 1 and depth is positive; the rest is unknown (sky has no return)."""
    stored, mask = read_npy(item.depth), read_npy(item.extra["mask"])
    if stored.shape != mask.shape:
        raise DataError(f"{item.extra['mask']}: mask is {mask.shape}, depth is {stored.shape}")
    known = (mask == 1) & np.isfinite(stored) & (stored > 0)
    depth_m = np.where(known, stored, np.nan).astype(np.float32)
    return Sample(name=item.key, image=read_image(item.image), depth_m=depth_m)


_AT = "{split}/{domain}/scene_{scene}/scan_{scan}/{name}"

ADAPTER = Adapter(
    name="diode",
    title="DIODE",
    role="evaluate",
    scenes="both",
    licence="MIT",
    home="https://diode-dataset.org",
    depth="_depth.npy float32 metres of shape (H, W, 1), _depth_mask.npy 1 = measured; the rest is unknown",
    layouts=(
        Layout(
            image=f"{_AT}.png",
            depth=f"{_AT}_depth.npy",
            extra={"mask": f"{_AT}_depth_mask.npy"},
            fields={"split": "train|val|test", "domain": "indoors|outdoor"},
            scene="{domain}/scene_{scene}",
            split="{split}/{domain}",
        ),
    ),
    read=read,
    paper_images=325,
    size=(768, 1024),
    traps=(
        "a pixel is known only where the mask is 1: the depth alone holds leftovers",
        "published DIODE figures are most likely of the 325 indoor pictures of val only: split val/indoors",
        "the depth array has a third axis of length 1",
    ),
)
