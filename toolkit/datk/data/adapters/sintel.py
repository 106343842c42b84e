"""MPI Sintel, training part with depth: 1,064 frames of an animated film.

Source: the depth archive's own readme and reader (sdk/python/sintel_io.py): the .dpt format.
"""

from __future__ import annotations

import numpy as np

from datk.data.adapters.base import Adapter, Item
from datk.data.adapters.layout import Layout
from datk.data.depth_files import read_dpt
from datk.data.sample import Sample
from datk.depth.preprocess import read_image


def read(item: Item) -> Sample:
    """Metres as stored. Sky is not marked: it is a far wall or a large number, and stays so."""
    stored = read_dpt(item.depth)
    depth_m = np.where(np.isfinite(stored) & (stored > 0), stored, np.nan).astype(np.float32)
    return Sample(name=item.key, image=read_image(item.image), depth_m=depth_m)


ADAPTER = Adapter(
    name="sintel",
    title="MPI Sintel",
    role="evaluate",
    scenes="both",
    licence="Sintel is CC BY 3.0 (Blender Foundation); the depth archive is offered for research",
    home="http://sintel.is.tue.mpg.de/depth",
    depth=".dpt: float tag 202021.25, int32 width, int32 height, float32 metres; sky is not marked",
    layouts=(
        Layout(
            image="training/final/{scene}/frame_{frame}.png",
            depth="training/depth/{scene}/frame_{frame}.dpt",
            fields={"frame": r"\d{4}"},
            scene="{scene}",
        ),
    ),
    read=read,
    paper_images=1_064,
    size=(436, 1024),
    traps=(
        "images and depth come in two archives that unpack into the same training/ folder",
        "the final pass is used, not clean or albedo",
        "sky has no flag: clipping (72 m), masking (70 m) or keeping it moves figures by a factor of two",
    ),
)
