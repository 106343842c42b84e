"""IRS, Indoor Robotics Stereo (HKBU, 2019): 103,316 rendered stereo pairs with disparity in OpenEXR.

Sources: HKBU-HPML/IRS README, lists/ (names), dataloader/SIRSLoader.py (focal length), dataloader/scripts/disp2pcd.py
(baseline), dataloader/scripts/EXRloader.py (channel).
"""

from __future__ import annotations

import numpy as np

from datk.data.adapters.base import Adapter, Item
from datk.data.adapters.layout import Layout
from datk.data.depth_files import read_exr
from datk.data.sample import Sample
from datk.depth.preprocess import read_image

FOCAL_PX, BASELINE_M = 480.0, 0.1


def read(item: Item) -> Sample:
    """Depth = 480 px * 0.1 m / disparity; 0, negative and non-finite disparities are unknown."""
    disparity_px = read_exr(item.depth)
    known = np.isfinite(disparity_px) & (disparity_px > 0)
    depth_m = np.where(known, FOCAL_PX * BASELINE_M / np.where(known, disparity_px, 1), np.nan).astype(np.float32)
    return Sample(name=item.key, image=read_image(item.image), depth_m=depth_m)


ADAPTER = Adapter(
    name="irs",
    title="IRS, Indoor Robotics Stereo",
    role="train",
    scenes="indoor",
    licence="not stated by its authors; research use is what the paper offers it for",
    home="https://github.com/HKBU-HPML/IRS",
    depth="OpenEXR float, disparity in pixels of the left picture (f 480 px, baseline 0.1 m); <= 0 unknown, no sky",
    layouts=(
        Layout(
            image="{kind}/{scene}/l_{frame}.png",
            depth="{kind}/{scene}/d_{frame}.exr",
            fields={"kind": "Home|Office|Restaurant|Store", "frame": r"\d+"},
            scene="{kind}/{scene}",
            split="{kind}",
        ),
        Layout(
            image="{kind}/l_{frame}.png",
            depth="{kind}/d_{frame}.exr",
            fields={"kind": "Home|Office|Restaurant|Store", "frame": r"\d+"},
            scene="{kind}",
            split="{kind}",
        ),
    ),
    read=read,
    paper_images=103_000,
    size=(540, 960),
    modules=("OpenEXR",),
    traps=(
        "the maps hold disparity: taking them for depth turns the scene inside out",
        "OpenCV's wheels read no EXR (and, where built with it, only with OPENCV_IO_ENABLE_OPENEXR=1 set before the "
        "import); the OpenEXR package is used",
        "an EXR with three channels has the disparity in each; green is read, as the authors do",
        "r_*.png (right pictures) and n_*.exr (normals) are not used",
    ),
)
