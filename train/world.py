"""The processes that train together: started by torchrun, joined once, asked for wherever it matters.

Without torchrun there is one process, no process group, and every function here does nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from datk.errors import UsageError

PATIENCE = timedelta(days=1)
"""How long a process waits for the others: the first one may render or label for hours meanwhile. A process that died
is noticed by torchrun at once, not by this."""


@dataclass(frozen=True)
class World:
    """rank: this process, 0 .. size - 1. local_rank: its number on this machine, and that of its GPU."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def main(self) -> bool:
        """The one process that writes and prints."""
        return self.rank == 0

    def check_divides(self, batch_size: int, *, key: str = "schedule.batch_size") -> None:
        """Raise UsageError unless every process gets the same number of a step's images. key: where they are set."""
        if batch_size % self.size:
            low, high = batch_size // self.size * self.size, (batch_size // self.size + 1) * self.size
            near = f"{low} or {high}" if low else str(high)
            raise UsageError(
                f"{key}: {batch_size} images cannot be shared evenly by {self.size} processes",
                hint=f"set batch_size to {near}, or take a number of processes (GPUs) that divides {batch_size}",
            )

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Element-wise sum over all processes; values is not changed."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            self.sum(torch.zeros(1))

    def from_main(self, value: Any) -> Any:
        """The main process's JSON value, in every process; the others' argument is not looked at."""
        if self.size == 1:
            return value
        data = torch.tensor(list(json.dumps(value).encode()) if self.main else [], dtype=torch.uint8)
        length = self.sum(torch.tensor([data.numel()]))
        if not self.main:
            data = torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(data, src=0)
        return json.loads(bytes(data.tolist()))

    def gather(self, values: list[Any]) -> list[Any]:
        """Every process's JSON values, one list in the order of ranks, in every process."""
        if self.size == 1:
            return values
        data = torch.tensor(list(json.dumps(values).encode()), dtype=torch.uint8)
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = data.numel()
        lengths = self.sum(lengths)
        parts = [torch.empty(int(lengths.max()), dtype=torch.uint8) for _ in range(self.size)]
        dist.all_gather(parts, torch.nn.functional.pad(data, (0, int(lengths.max()) - data.numel())))
        found: list[Any] = []
        for part, length in zip(parts, lengths.tolist(), strict=True):
            found += json.loads(bytes(part[:length].tolist()))
        return found


def current_world() -> World:
    """What this process has joined; a World of one when it has joined nothing."""
    if not (dist.is_available() and dist.is_initialized()):
        return World()
    return World(dist.get_rank(), dist.get_world_size(), dist.get_node_local_rank(fallback_rank=0))


@contextmanager
def joined(*, cuda: bool) -> Iterator[World]:
    """Join the processes torchrun started, for the length of the block.

    cuda: GPUs will compute; their tensors then travel by NCCL. Those of the CPU always travel by gloo.
    """
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    yield current_world()
    dist.destroy_process_group()  # not after an error: the others may wait for this process, which is about to end
