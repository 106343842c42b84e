"""Drop what every official file holds and nothing reads: the mask token and the coarsest level's lateral unit."""

from __future__ import annotations

from datk.models.depth_anything import DepthAnything
from datk.models.dinov2 import DinoV2
from datk.models.dpt import DptHead


def drop_dead_weights(net: DepthAnything) -> int:
    """Remove them in place; returns how many numbers went: 0 of a net that has no such weights."""
    if not isinstance(net.depth_head, DptHead):
        return 0
    head = net.depth_head.scratch.refinenet4
    gone = sum(p.numel() for p in head.resConfUnit1.parameters())
    del head.resConfUnit1
    if isinstance(net.pretrained, DinoV2):
        gone += net.pretrained.mask_token.numel()
        del net.pretrained.mask_token
    return gone
