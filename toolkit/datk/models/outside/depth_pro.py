"""Depth Pro (Bochkovskii et al. 2024, arXiv 2410.02073): metric depth and focal length of a square view.

The preprocessing is ours, because transformers' needs torchvision: pixels to -1..1 first, then a bilinear resize to a
square without smoothing (antialias off), as the published code does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from datk.depth.io_spec import DepthKind
from datk.depth.runner import ImageU8
from datk.depth.teacher import Prepared
from datk.errors import CheckpointError
from datk.models.outside.base import Family, OutsideTeacher, load_net

SIDE = 1536
INVERSE_LIMITS = (1e-4, 1e4)
"""1/m, of the published post-processing."""


class DepthProTeacher(OutsideTeacher):
    """side: of the square the net sees, pixels."""

    side: int

    def prepare(self, photo: ImageU8) -> Prepared:
        pixels = torch.from_numpy(np.ascontiguousarray(photo.transpose(2, 0, 1)))[None].float() / 127.5 - 1
        square = F.interpolate(pixels, (self.side, self.side), mode="bilinear", align_corners=False)
        return Prepared(np.ascontiguousarray(square[0].numpy()))

    def run(self, net: Any, pixels: Tensor) -> Tensor:
        """The net's canonical inverse depth, times width / focal length where it tells the field of view."""
        out = net(pixel_values=pixels)
        canonical: Tensor = out.predicted_depth.float()  # (B, side, side)
        if self.depth_kind is DepthKind.DISPARITY_AFFINE_INVARIANT:
            return canonical
        width_over_focal = 2 * torch.tan(0.5 * torch.deg2rad(out.field_of_view.float()))  # (B,)
        inverse = canonical * width_over_focal[:, None, None]
        depth_m: Tensor = 1 / inverse.clamp(*INVERSE_LIMITS)
        return depth_m


def open_depth_pro(folder: Path, *, spec: str, device: str, precision: str) -> OutsideTeacher:
    net = load_net(folder, spec=spec)
    tells_view = bool(net.config.use_fov_model)
    side = _side(folder)
    teacher = DepthProTeacher(
        net,
        folder,
        spec=spec,
        family="depth_pro",
        depth_kind=DepthKind.DEPTH_METRIC_M if tells_view else DepthKind.DISPARITY_AFFINE_INVARIANT,
        device=device,
        precision=precision,
        identity={"side": side},
        notes=() if tells_view else ("Depth Pro without its field-of-view net: disparity up to scale",),
    )
    teacher.side = side
    return teacher


def _side(folder: Path) -> int:
    """Of preprocessor_config.json, else the published 1536."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return SIDE
    try:
        size = json.loads(path.read_text(encoding="utf-8")).get("size", {"height": SIDE, "width": SIDE})
        height, width = int(size["height"]), int(size["width"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: no size in it ({error})", hint="fetch it again") from error
    if height != width:
        raise CheckpointError(f"{path}: {height}x{width}, but Depth Pro sees squares", hint="fetch it again")
    return height


FAMILY = Family(name="depth_pro", prefix="hf", model_types=("depth_pro",), open=open_depth_pro)
