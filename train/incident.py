"""A loss or gradient that is not finite: what is kept of it, so that the step can be run again and looked into."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from datk.artifact.files import atomic_path, write_json
from datk.errors import CheckpointError
from datk.train.parallel import whole_state
from datk.train.samples import Batch
from datk.train.world import World

WEIGHTS = "weights.safetensors"
SHOWN = 8
"""Samples a message names; the file has them all."""


@dataclass(frozen=True)
class Incident:
    """folder: what was kept. samples: what the message names, of every process."""

    folder: Path
    samples: list[str]

    def words(self) -> str:
        """The samples for a message."""
        more = len(self.samples) - SHOWN
        return ", ".join(self.samples[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def keep_incident(
    folder: Path,
    learner: nn.Module,
    parts: list[Batch],
    *,
    step: int,
    facts: Mapping[str, Any],
    sample_name: Callable[[int], str],
    world: World,
) -> Incident:
    """Write folder/non-finite-step-N: the weights before the step and each process's bad images. All processes call it.

    parts: this process's micro-batches at fault, on the CPU, maybe none. facts: JSON that goes beside them.
    """
    out = folder / f"non-finite-step-{step:08d}"
    state = whole_state(learner, keep=world.main)
    if world.main:
        with atomic_path(out / WEIGHTS) as path:
            save_file({name: value.contiguous() for name, value in state.items()}, path)
    named = []
    for number, part in enumerate(parts):
        names = [sample_name(index) for index in part.samples]
        named += names or [f"{len(part.image)} images of process {world.rank}"]
        stem = f"batch-{world.rank}-{number}"
        with atomic_path(out / f"{stem}.safetensors") as path:
            save_file({name: value.clone().contiguous() for name, value in part.tensors().items()}, path)
        record = {"step": step, "process": world.rank, "positions": part.positions, "samples": part.samples}
        write_json(out / f"{stem}.json", {**record, "names": names, **facts})
    return Incident(out, world.gather(named))


def read_incident(folder: Path) -> tuple[dict[str, Tensor], list[tuple[Batch, dict[str, Any]]]]:
    """(weights by name, [(bad images, their record)]). Raises CheckpointError when the folder is no such thing."""
    records = sorted(folder.glob("batch-*.json"))
    if not records or not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{folder}: holds no kept batch", hint="name a folder non-finite-step-N of a training")
    found = []
    for path in records:
        record = json.loads(path.read_text(encoding="utf-8"))
        tensors = load_file(path.with_suffix(".safetensors"))
        found.append((Batch(**tensors, positions=tuple(record["positions"]), samples=tuple(record["samples"])), record))
    return load_file(folder / WEIGHTS), found
