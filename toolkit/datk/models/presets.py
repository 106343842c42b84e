"""The sizes: DINOv2 ViT-S/B/L/G as published, a `tiny` of our own for CPU work, a convolutional `mobile`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from datk.errors import UsageError

PATCH = 14
POSITION_GRID = 37
"""Side of the stored position-embedding grid: 518 / 14. All presets keep it, so one resize rule serves all."""
HEAD_DIM = 64


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Shape of one net. Source: depth_anything_v2/dpt.py model_configs and the DINOv2 hub backbones."""

    name: str
    dim: int
    depth: int
    heads: int
    ffn: Literal["mlp", "swiglu"]
    taps: tuple[int, int, int, int]
    """0-based blocks whose output feeds the head; the last one is always the last block."""
    features: int
    """Channels of the fusion stage of the DPT head."""
    out_channels: tuple[int, int, int, int]
    """Channels of the four reassembled levels, finest first."""
    licence: str
    """SPDX name of the published weights of this size; relative and metric alike."""
    backbone: Literal["dinov2", "mobilenet_v2"] = "dinov2"
    """mobilenet_v2: datk.models.mobile. dim is then the width of the coarsest map, out_channels are those of the tapped
    maps, heads is 0 and ffn means nothing."""

    @property
    def ffn_hidden(self) -> int:
        """Hidden width of a block's feed-forward part; SwiGLU rounds 8/3 dim up to a multiple of 8."""
        if self.ffn == "mlp":
            return 4 * self.dim
        return (int(4 * self.dim * 2 / 3) + 7) // 8 * 8


PRESETS: dict[str, Preset] = {
    p.name: p
    for p in (
        Preset(
            name="tiny",
            dim=192,
            depth=8,
            heads=3,
            ffn="mlp",
            taps=(1, 3, 5, 7),
            features=32,
            out_channels=(24, 48, 96, 192),
            licence="Apache-2.0",
        ),
        Preset(
            name="small",
            dim=384,
            depth=12,
            heads=6,
            ffn="mlp",
            taps=(2, 5, 8, 11),
            features=64,
            out_channels=(48, 96, 192, 384),
            licence="Apache-2.0",
        ),
        Preset(
            name="base",
            dim=768,
            depth=12,
            heads=12,
            ffn="mlp",
            taps=(2, 5, 8, 11),
            features=128,
            out_channels=(96, 192, 384, 768),
            licence="CC-BY-NC-4.0",
        ),
        Preset(
            name="large",
            dim=1024,
            depth=24,
            heads=16,
            ffn="mlp",
            taps=(4, 11, 17, 23),
            features=256,
            out_channels=(256, 512, 1024, 1024),
            licence="CC-BY-NC-4.0",
        ),
        Preset(
            name="giant",
            dim=1536,
            depth=40,
            heads=24,
            ffn="swiglu",
            taps=(9, 19, 29, 39),
            features=384,
            out_channels=(1536, 1536, 1536, 1536),
            licence="CC-BY-NC-4.0",
        ),
        Preset(
            name="mobile",
            dim=320,
            depth=16,
            heads=0,
            ffn="mlp",
            taps=(1, 4, 11, 15),
            features=64,
            out_channels=(24, 32, 96, 320),
            licence="Apache-2.0",
            backbone="mobilenet_v2",
        ),
    )
}
"""By name. `tiny` and `mobile` have no published weights: their licence here is that of the code, a trained file states
its own."""


def preset(name: str) -> Preset:
    """The preset of that name. Raises UsageError with the known names and the nearest one."""
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name, PRESETS, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UsageError(f"no net size named '{name}'", hint=f"{hint}known: {', '.join(PRESETS)}")
