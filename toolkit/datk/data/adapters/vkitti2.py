"""Virtual KITTI 2 (Naver Labs, 2020): five driving scenes in ten variants, rendered.

Sources: the set's own page; Depth Anything V2 metric_depth/dataset/vkitti2.py.
"""

from __future__ import annotations

import numpy as np

from datk.data.adapters.base import Adapter, Item
from datk.data.adapters.layout import Layout
from datk.data.depth_files import read_png16
from datk.data.sample import Sample
from datk.depth.preprocess import read_image

SKY_CM = 65535


def read(item: Item) -> Sample:
    """Centimetres; 65535 (655.35 m) is sky and everything beyond."""
    raw = read_png16(item.depth)
    depth_m = np.where(raw == SKY_CM, np.inf, raw / np.float32(100)).astype(np.float32)
    return Sample(name=item.key, image=read_image(item.image), depth_m=depth_m)


_FIELDS = {"scene": r"\d{2}", "frame": r"\d{5}"}

ADAPTER = Adapter(
    name="vkitti2",
    title="Virtual KITTI 2",
    role="train",
    scenes="outdoor",
    licence="CC BY-NC-SA 3.0",
    home="https://europe.naverlabs.com/research/computer-vision/proxy-virtual-worlds-vkitti-2",
    depth="16-bit PNG, centimetres; 65535 = sky",
    layouts=(
        Layout(
            image="Scene{scene}/{variant}/frames/rgb/Camera_0/rgb_{frame}.jpg",
            depth="Scene{scene}/{variant}/frames/depth/Camera_0/depth_{frame}.png",
            fields=_FIELDS,
            scene="Scene{scene}/{variant}",
        ),
        Layout(
            image="vkitti_2.0.3_rgb/Scene{scene}/{variant}/frames/rgb/Camera_0/rgb_{frame}.jpg",
            depth="vkitti_2.0.3_depth/Scene{scene}/{variant}/frames/depth/Camera_0/depth_{frame}.png",
            fields=_FIELDS,
            scene="Scene{scene}/{variant}",
        ),
    ),
    read=read,
    paper_images=20_000,
    size=(375, 1242),
    traps=(
        "centimetres, not millimetres and not KITTI's 1/256 m",
        "65535 reads as 655.35 m: sky, kept as infinity, so that disparity 0 is learnt there",
        "only Camera_0 is used (21,260 pictures); Camera_1 is the same drive 0.53 m to the right",
    ),
)
