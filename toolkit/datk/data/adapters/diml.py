"""DIML/CVL RGB-D (Yonsei and Ewha): Kinect v2 indoors, ZED stereo outdoors; the paper's example of noisy labels.

Sources: others' loaders of the sample and of the full archives (layouts, millimetres, confidence); the technical
report on dimlrgbd.github.io.
"""

from __future__ import annotations

import numpy as np

from datk.data.adapters.base import Adapter, Item
from datk.data.adapters.layout import Layout
from datk.data.depth_files import read_grey, read_png16
from datk.data.sample import Sample
from datk.depth.preprocess import read_image
from datk.errors import DataError

MIN_CONFIDENCE = 0.6
"""Outdoor stereo below this confidence (0..1) is unknown."""


def read(item: Item) -> Sample:
    """Millimetres; 0 is unknown, outdoors also what has little confidence."""
    raw = read_png16(item.depth)
    known = raw > 0
    if "confidence" in item.extra:
        confidence = read_grey(item.extra["confidence"])
        if confidence.shape != raw.shape:
            raise DataError(f"{item.extra['confidence']}: confidence is {confidence.shape}, depth is {raw.shape}")
        known &= confidence >= MIN_CONFIDENCE * np.iinfo(confidence.dtype).max
    depth_m = np.where(known, raw / np.float32(1000), np.nan).astype(np.float32)
    return Sample(name=item.key, image=read_image(item.image), depth_m=depth_m)


_SPLIT = {"split": "train|test", "quality": "HR|LR"}

ADAPTER = Adapter(
    name="diml",
    title="DIML/CVL RGB-D",
    role="evaluate",
    scenes="both",
    licence="research use, see its page",
    home="https://dimlrgbd.github.io",
    depth="16-bit PNG, millimetres; 0 = unknown; outdoors with a confidence map",
    layouts=(
        Layout(
            image="indoor/{split}/{quality}/{scene}/color/{name}_c.png",
            depth="indoor/{split}/{quality}/{scene}/depth_filled/{name}_depth_filled.png",
            fields=_SPLIT,
            scene="indoor/{scene}",
            split="{split}/indoor/{quality}",
            note="sample archive",
        ),
        Layout(
            image="outdoor/{split}/{quality}/outleft/{name}.png",
            depth="outdoor/{split}/{quality}/depthmap/{name}.png",
            extra={"confidence": "outdoor/{split}/{quality}/confidencemap/{name}.png"},
            fields=_SPLIT,
            scene="outdoor",
            split="{split}/outdoor/{quality}",
            note="sample archive",
        ),
        Layout(
            image="indoor/{place}/{date}/{batch}/col/{name}_c.png",
            depth="indoor/{place}/{date}/{batch}/up_png/{name}_{kind}.png",
            fields={"kind": "[a-z]+"},
            scene="indoor/{place}",
            split="indoor",
            note="full archives",
        ),
        Layout(
            image="outdoor/{place}/{batch}/left/{name}_left.png",
            depth="outdoor/{place}/{batch}/depth/{name}_depth.png",
            extra={"confidence": "outdoor/{place}/{batch}/conf/{name}_conf.png"},
            scene="outdoor/{place}",
            split="outdoor",
            note="full archives",
        ),
    ),
    read=read,
    traps=(
        "sensor and stereo depth: edges are wrong, glass and mirrors are missing; Table 6 shows what that costs",
        "depth_filled and up_png are filled in, not measured, between the sensor's points",
        "HR and LR hold the same scenes: choose one by its split (train/indoor/LR), or everything counts twice",
    ),
)
