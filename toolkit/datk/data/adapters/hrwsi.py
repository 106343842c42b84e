"""HR-WSI (Xian et al., CVPR 2020): web stereo photographs; the noisy real labels of the paper's Fig. 12.

Sources: KexianHust/Structure-Guided-Ranking-Loss; others' loaders (inverse depth, masks).
"""

from __future__ import annotations

import numpy as np

from datk.data.adapters.base import Adapter, Item
from datk.data.adapters.layout import Layout
from datk.data.depth_files import read_grey
from datk.data.sample import Sample
from datk.depth.preprocess import read_image
from datk.errors import DataError


def read(item: Item) -> Sample:
    """Inverse depth up to scale and shift, larger is nearer; unknown where the mask is 0."""
    stored, mask = read_grey(item.depth), read_grey(item.extra["mask"])
    if stored.shape != mask.shape:
        raise DataError(f"{item.extra['mask']}: mask is {mask.shape}, disparity is {stored.shape}")
    disparity = np.where(mask > 0, stored, np.nan).astype(np.float32)
    return Sample(name=item.key, image=read_image(item.image), disparity_relative=disparity)


ADAPTER = Adapter(
    name="hrwsi",
    title="HR-WSI",
    role="train",
    scenes="both",
    licence="research use, see its page",
    home="https://github.com/KexianHust/Structure-Guided-Ranking-Loss",
    depth="grey PNG, inverse depth up to scale and shift (larger is nearer); valid_masks 0 = unknown",
    layouts=(
        Layout(
            image="{split}/imgs/{name}.jpg",
            depth="{split}/gts/{name}.png",
            extra={"mask": "{split}/valid_masks/{name}.png"},
            fields={"split": "train|val"},
            split="{split}",
        ),
    ),
    read=read,
    traps=(
        "the maps hold inverse depth, not depth",
        "labels come from optical flow between web stereo pairs: smooth across thin things; 5 % of them blur a student "
        "(Fig. 12)",
        "20,378 training and 400 validation photographs",
    ),
)
