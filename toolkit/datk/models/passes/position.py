"""Constant position embedding: what is resized bicubically from the stored grid becomes one tensor of the bucket.

No compiler takes bicubic resizing alike (TensorRT and torch differ, Core ML lacks it), and its result depends on
the input size alone, which is fixed.
"""

from __future__ import annotations

from datk.depth.io_spec import Size
from datk.models.depth_anything import DepthAnything
from datk.models.dinov2 import DinoV2
from datk.models.presets import PATCH


def fix_position_embedding(net: DepthAnything, input_size: Size) -> int:
    """Freeze the embedding for input_size (height, width), multiples of 14, and drop the stored grid.

    Returns 1, or 0 for an encoder of another family, whose embedding is its own affair.
    """
    encoder = net.pretrained
    if not isinstance(encoder, DinoV2):
        return 0
    encoder.fix_position((input_size[0] // PATCH, input_size[1] // PATCH))
    return 1
