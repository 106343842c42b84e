"""How the net is laid out over processes, and what is recomputed or compiled: decided once, outside the loop.

The loop calls one module, `StepModule`, whose forward is the whole step. So the hooks of DistributedDataParallel and
of FSDP2 see every forward pass, whatever the step function calls on the net inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from datk.config.train_sections import ScheduleSection
from datk.models.backbones import Backbone
from datk.models.dinov2 import Block, DinoV2
from datk.models.mobile import MobileEncoder
from datk.train.world import World

if TYPE_CHECKING:
    from datk.train.loop import StepFunction, StepLoss
    from datk.train.samples import Batch


class StepModule(nn.Module):
    """learner: everything that learns. forward: the step function on it."""

    def __init__(self, learner: nn.Module, step_function: StepFunction) -> None:
        super().__init__()
        self.learner, self.step_function = learner, step_function

    def forward(self, batch: Batch, done: float) -> StepLoss:
        loss = self.step_function(batch, done)
        return replace(loss, output=loss.output.detach())  # only total is differentiated


def lay_out(step: StepModule, section: ScheduleSection, world: World, device: torch.device) -> nn.Module:
    """The callable the loop trains through: step itself, or step wrapped for several processes.

    Sets recomputation on encoders and compiles their blocks as the section says. fsdp shards each block and
    then the rest: a block's weights are gathered when it computes and let go after.
    """
    blocks: list[nn.Module] = [module for module in step.modules() if isinstance(module, Block)]
    for encoder in (module for module in step.modules() if isinstance(module, DinoV2 | Backbone)):
        encoder.gradient_checkpointing = section.activation_checkpointing
        if isinstance(encoder, Backbone):
            blocks += encoder.blocks
    blocks += [block for encoder in step.modules() if isinstance(encoder, MobileEncoder) for block in encoder.blocks]
    if section.compile:
        for block in blocks:
            block.compile()
    if world.size == 1:
        return step
    if section.sharding == "fsdp":
        mesh = init_device_mesh(device.type, (world.size,))
        for block in blocks:
            fully_shard(block, mesh=mesh)
        return cast(nn.Module, fully_shard(step, mesh=mesh))
    return DistributedDataParallel(step, forward_sync_buffers=False, gradient_as_bucket_view=True)


@contextmanager
def exchange(module: nn.Module, wanted: bool) -> Iterator[None]:
    """Whether the backward pass inside adds up gradients over processes: wanted for a step's last micro-batch only."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(wanted)
    keep = isinstance(module, DistributedDataParallel) and not wanted
    with cast(DistributedDataParallel, module).no_sync() if keep else nullcontext():
        yield


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of a sharded one (every process must ask), any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_state(module: nn.Module, *, keep: bool) -> dict[str, Tensor]:
    """Names and full CPU tensors of a module's state; every process must ask, those with keep False get nothing."""
    out: dict[str, Tensor] = {}
    for name, value in module.state_dict().items():
        full = whole(value.detach())
        if keep:
            out[name] = full.cpu()
    return out
