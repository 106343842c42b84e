"""ETH3D, high-resolution multi-view training scenes: 454 DSLR photographs with laser-scan depth.

Source: the set's documentation page (formats of multi-view data, depth maps).
"""

from __future__ import annotations

import numpy as np

from datk.data.adapters.base import Adapter, Item
from datk.data.adapters.layout import Layout
from datk.data.depth_files import read_raw_float32
from datk.data.sample import Sample
from datk.depth.preprocess import read_image


def read(item: Item) -> Sample:
    """Headerless float32 metres of the distorted photograph's own pixels; inf is "no measurement", not sky."""
    image = read_image(item.image, upright=False)
    stored = read_raw_float32(item.depth, (image.shape[0], image.shape[1]))
    depth_m = np.where(np.isfinite(stored) & (stored > 0), stored, np.nan).astype(np.float32)
    return Sample(name=item.key, image=image, depth_m=depth_m)


ADAPTER = Adapter(
    name="eth3d",
    title="ETH3D, DSLR training scenes",
    role="evaluate",
    scenes="both",
    licence="CC BY-NC-SA 4.0",
    home="https://www.eth3d.net/datasets",
    depth="raw little-endian float32 without a header (though named .JPG), metres; inf = unknown, not sky",
    layouts=(
        Layout(
            image="{scene}/images/dslr_images/{name}.JPG",
            depth="{scene}/ground_truth_depth/dslr_images/{name}.JPG",
            scene="{scene}",
        ),
        Layout(
            image="{scene}_dslr_jpg/{scene}/images/dslr_images/{name}.JPG",
            depth="{scene}_dslr_depth/{scene}/ground_truth_depth/dslr_images/{name}.JPG",
            scene="{scene}",
            note="archives unpacked in folders of their own",
        ),
    ),
    read=read,
    paper_images=454,
    size=(4032, 6048),
    traps=(
        "depth maps are named .JPG but are raw floats",
        "they belong to the distorted photographs (SCENE_dslr_jpg.7z); with the undistorted ones every pixel is off",
        "inf means no measurement; taking it for sky would teach sky on windows and edges",
        "photographs are read as stored, without EXIF rotation: depth is in those pixels",
    ),
)
