"""KITTI with improved ground truth (Uhrig et al. 2017): sparse depth accumulated from eleven laser scans.

Source: the depth development kit's readme.txt.
"""

from __future__ import annotations

import numpy as np

from datk.data.adapters.base import Adapter, Item
from datk.data.adapters.layout import Layout
from datk.data.depth_files import read_png16
from datk.data.sample import Sample
from datk.depth.preprocess import read_image


def read(item: Item) -> Sample:
    """1/256 m; 0 is unknown (most pixels: sky, glass, and between the laser's lines)."""
    raw = read_png16(item.depth)
    depth_m = np.where(raw > 0, raw / np.float32(256), np.nan).astype(np.float32)
    return Sample(name=item.key, image=read_image(item.image), depth_m=depth_m)


_FIELDS = {
    "date": r"\d{4}_\d\d_\d\d",
    "drive": r"\d{4}_\d\d_\d\d_drive_\d{4}_sync",
    "camera": "image_0[23]",
    "frame": r"\d{10}",
    "split": "train|val",
}
_IMAGE = "{date}/{drive}/{camera}/data/{frame}.png"
_DEPTH = "{split}/{drive}/proj_depth/groundtruth/{camera}/{frame}.png"
_SELECTED = "{{drive}}_{0}_{{frame}}_{{camera}}.png"

ADAPTER = Adapter(
    name="kitti",
    title="KITTI, depth prediction",
    role="evaluate",
    scenes="outdoor",
    licence="CC BY-NC-SA 3.0",
    home="https://www.cvlibs.net/datasets/kitti/eval_depth.php?benchmark=depth_prediction",
    depth="16-bit PNG, 1/256 m; 0 = unknown",
    layouts=(
        Layout(image=_IMAGE, depth=_DEPTH, fields=_FIELDS, scene="{drive}", split="{split}", images_alone=True),
        Layout(
            image=f"{{raw}}/{_IMAGE}",
            depth=f"{{annotated}}/{_DEPTH}",
            fields=_FIELDS,
            scene="{drive}",
            split="{split}",
            images_alone=True,
            note="raw recordings and data_depth_annotated in folders of their own",
        ),
        Layout(
            image=f"val_selection_cropped/image/{_SELECTED.format('image')}",
            depth=f"val_selection_cropped/groundtruth_depth/{_SELECTED.format('groundtruth_depth')}",
            fields=_FIELDS,
            scene="{drive}",
            split="val_selection",
        ),
    ),
    read=read,
    paper_images=652,
    traps=(
        "1/256 m, and 0 is not near but unknown",
        "the first and last five frames of a drive have no ground truth, many drives none at all: counted, not missing",
        "the protocol's 652 Eigen frames are a list of your own: open_dataset(..., listing=FILE); Garg's crop and the "
        "cap of 80 m belong to the metric, not to the loader",
        "picture sizes differ between drives (1224 to 1242 wide, 370 to 376 high)",
    ),
)
