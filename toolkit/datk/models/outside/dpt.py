"""MiDaS 3 and DPT, and Depth Anything V1 and V2 in Hugging Face's form: one image processor, one kind of output.

Relative nets give inverse depth up to scale and shift (Ranftl et al. 2020); Depth Anything's metric ones metres.
V1 and V2 differ in which layers the head reads, which config.json says: that is why a V1 goes through transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from datk.depth.io_spec import DepthKind
from datk.depth.runner import ImageU8
from datk.depth.teacher import Prepared
from datk.errors import CheckpointError
from datk.models.outside.base import Family, OutsideTeacher, load_net, load_processor, processed


class DptTeacher(OutsideTeacher):
    """processor: the net's own, which keeps the whole photograph in view."""

    processor: Any

    def prepare(self, photo: ImageU8) -> Prepared:
        return Prepared(processed(self.processor, photo))

    def run(self, net: Any, pixels: Tensor) -> Tensor:
        out: Tensor = net(pixel_values=pixels).predicted_depth
        return out


def open_dpt(folder: Path, *, spec: str, device: str, precision: str) -> OutsideTeacher:
    net, processor = load_net(folder, spec=spec), load_processor(folder)
    if getattr(processor, "do_pad", False):
        raise CheckpointError(
            f"{folder / 'preprocessor_config.json'}: pads pictures (do_pad), so a map would show more than its picture",
            hint="set do_pad to false there",
        )
    metric = getattr(net.config, "depth_estimation_type", "relative") == "metric"
    teacher = DptTeacher(
        net,
        folder,
        spec=spec,
        family=net.config.model_type,
        depth_kind=DepthKind.DEPTH_METRIC_M if metric else DepthKind.DISPARITY_AFFINE_INVARIANT,
        device=device,
        precision=precision,
    )
    teacher.processor = processor
    return teacher


FAMILY = Family(name="dpt", prefix="hf", model_types=("dpt", "depth_anything"), open=open_dpt)
