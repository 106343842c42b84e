"""BlendedMVS, BlendedMVS+ and BlendedMVS++ (together BlendedMVG): rendered meshes of real scenes blended with photos.

Source: YoYo000/BlendedMVS README.
"""

from __future__ import annotations

import numpy as np

from datk.data.adapters.base import Adapter, Item
from datk.data.adapters.layout import Layout
from datk.data.depth_files import read_pfm
from datk.data.sample import Sample
from datk.depth.preprocess import read_image


def read(item: Item) -> Sample:
    """Depth in a unit of the scene's own; 0 where the mesh has no surface: unknown, it may be sky or a hole."""
    stored = read_pfm(item.depth)
    depth = np.where(np.isfinite(stored) & (stored > 0), stored, np.nan).astype(np.float32)
    return Sample(name=item.key, image=read_image(item.image), depth_unscaled=depth)


_FIELDS = {"frame": r"\d{8}"}

ADAPTER = Adapter(
    name="blendedmvs",
    title="BlendedMVS",
    role="train",
    scenes="both",
    licence="CC BY 4.0",
    home="https://github.com/YoYo000/BlendedMVS",
    depth="PFM float32, rows bottom-up, depth in a unit of each scene's own (not metres); 0 = unknown",
    layouts=(
        Layout(
            image="{scene}/blended_images/{frame}.jpg",
            depth="{scene}/rendered_depth_maps/{frame}.pfm",
            fields=_FIELDS,
            scene="{scene}",
        ),
        Layout(
            image="{part}/{scene}/blended_images/{frame}.jpg",
            depth="{part}/{scene}/rendered_depth_maps/{frame}.pfm",
            fields=_FIELDS,
            scene="{scene}",
            split="{part}",
        ),
    ),
    read=read,
    paper_images=115_000,
    size=(576, 768),
    traps=(
        "PFM rows run from the bottom up and the sign of the header's scale gives the byte order",
        "not metric: each scene has a scale of its own, so no metric training and no figures in metres",
        "*_masked.jpg are the same pictures with the background cut out and are not used",
        "some maps are empty (0 everywhere): `datk data check` names them and the loader quarantines them",
    ),
)
