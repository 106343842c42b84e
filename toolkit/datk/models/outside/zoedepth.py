"""ZoeDepth (Bhat et al. 2023, arXiv 2302.12288): metric depth; the photograph is padded by reflection before the net.

The padding is int(3 * sqrt(side / 2)) pixels on each side (depth_model.py of the official code); the map is cut back.
"""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

from torch import Tensor

from datk.depth.io_spec import DepthKind
from datk.depth.runner import ImageU8
from datk.depth.teacher import WHOLE, Prepared, View
from datk.models.outside.base import Family, OutsideTeacher, load_net, load_processor, processed


class ZoeTeacher(OutsideTeacher):
    """processor: the net's own, padding included."""

    processor: Any

    def prepare(self, photo: ImageU8) -> Prepared:
        view = _inside(photo.shape[0], photo.shape[1]) if self.processor.do_pad else WHOLE
        return Prepared(processed(self.processor, photo), view)

    def run(self, net: Any, pixels: Tensor) -> Tensor:
        out: Tensor = net(pixel_values=pixels).predicted_depth
        return out


def _inside(height: int, width: int) -> View:
    """Where the photograph lies in its padded self."""
    down, right = int(sqrt(height / 2) * 3), int(sqrt(width / 2) * 3)
    tall, wide = height + 2 * down, width + 2 * right
    return (down / tall, right / wide, (down + height) / tall, (right + width) / wide)


def open_zoe(folder: Path, *, spec: str, device: str, precision: str) -> OutsideTeacher:
    teacher = ZoeTeacher(
        load_net(folder, spec=spec),
        folder,
        spec=spec,
        family="zoedepth",
        depth_kind=DepthKind.DEPTH_METRIC_M,
        device=device,
        precision=precision,
    )
    teacher.processor = load_processor(folder)
    return teacher


FAMILY = Family(name="zoedepth", prefix="hf", model_types=("zoedepth",), open=open_zoe)
