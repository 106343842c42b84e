"""What one image of a training pass takes: operations and kept bytes, counted on shapes alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from datk.depth.io_spec import Size
from datk.models.backbones import Backbone, EncoderSpec
from datk.models.depth_anything import DepthAnything
from datk.models.mobile import MobileEncoder


@dataclass(frozen=True)
class Cost:
    """What one image of a training pass takes, counted on shapes alone. Bytes in float32."""

    parameters: int
    trainable: int
    gathered: int
    """Parameters outside the blocks and in two blocks."""
    kept: int
    """Bytes kept for the backward pass."""
    kept_recomputing: int
    """The same with each block recomputed: the blocks' inputs, all of one block, the rest."""
    flops: int
    flops_recomputing: int
    flops_forward: int


@cache
def cost_of_one_image(size_name: str, size: Size, encoder: str | None = None) -> Cost:
    """Count parameters, kept bytes and operations of a net on one image of (height, width), without computing.

    encoder: EncoderSpec.to_json() of an encoder of another family, or None.
    """
    with torch.device("meta"):
        backbone = None if encoder is None else Backbone(EncoderSpec.from_json(encoder))
        net = DepthAnything(size_name, encoder=backbone)
    own = {parameter.untyped_storage()._cdata for parameter in net.parameters()}
    alive: list[torch.UntypedStorage] = []  # an address is an identity only while its owner lives
    kept: dict[int, int] = {}
    kept_in_blocks: dict[int, int] = {}
    inputs = block_flops = begun = 0
    inside = False

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        alive.append(storage)
        if storage._cdata not in own and storage._cdata not in kept:
            kept[storage._cdata] = storage.nbytes()
            if inside:
                kept_in_blocks[storage._cdata] = storage.nbytes()
        return tensor

    def enter(_: object, given: tuple[Tensor]) -> None:
        nonlocal inside, inputs, begun
        inside, begun = True, counter.get_total_flops()
        inputs += given[0].nbytes

    def leave(*_: object) -> None:
        nonlocal inside, block_flops
        inside = False
        block_flops += counter.get_total_flops() - begun

    for block in net.pretrained.blocks:
        block.register_forward_pre_hook(enter)
        block.register_forward_hook(leave)
    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        raw, _ = net.forward_train(torch.empty(1, 3, *size, device="meta"))
        forward = counter.get_total_flops()
        raw.sum().backward()
    flops = counter.get_total_flops()
    if isinstance(net.pretrained, MobileEncoder):  # torch counts a depthwise backward pass as a dense one's
        flops, block_flops = 3 * forward, 0
    blocks, in_blocks, total = len(net.pretrained.blocks), sum(kept_in_blocks.values()), sum(kept.values())
    parameters = sum(p.numel() for p in net.parameters())
    return Cost(
        parameters=parameters,
        trainable=sum(p.numel() for p in net.parameters() if p.requires_grad),
        gathered=parameters - (blocks - 2) * sum(p.numel() for p in net.pretrained.blocks[0].parameters()),
        kept=total,
        kept_recomputing=total - in_blocks + inputs + in_blocks // blocks,
        flops=flops,
        flops_recomputing=flops + block_flops,
        flops_forward=forward,
    )
