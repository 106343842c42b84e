"""Run a batch whose loss was not finite once more, image by image, and find where the first such number appears."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datk.config.train_sections import LossSection
from datk.errors import CheckpointError
from datk.models.depth_anything import DepthAnything
from datk.train.incident import read_incident
from datk.train.objective import depth_loss
from datk.train.samples import Batch


@dataclass(frozen=True)
class Replayed:
    """One image of the batch, computed alone in float32 on the CPU with the weights before the step."""

    name: str
    loss: float
    parts: dict[str, float]
    valid_fraction: float
    source: str
    """Where a number that is not finite appears first: weights, image, target, a module's name, loss, gradient; else
    "nothing": then the arithmetic of the training (bf16, a term of its own) made it."""


def replay(folder: Path) -> list[Replayed]:
    """folder: what a training left as non-finite-step-N. The dense losses only, at the end of their ramps.

    Raises CheckpointError when the folder is no such thing or its training was none of a depth net.
    """
    weights, batches = read_incident(folder)
    out = []
    for batch, record in batches:
        if "size" not in record:
            raise CheckpointError(f"{folder}: the record does not say which net", hint="see batch-*.json in it")
        net = DepthAnything(str(record["size"]))
        state = {name.removeprefix("net."): value for name, value in weights.items()}
        net.load_state_dict({name: value for name, value in state.items() if not name.startswith("bridge.")})
        section = LossSection.model_validate_json(json.dumps(record["loss"]))
        names = record["names"] or [f"image {number}" for number in range(len(batch.image))]
        for name, one in zip(names, batch.split(1), strict=True):
            out.append(_replay_one(net, section, name, one))
    return out


def _replay_one(net: DepthAnything, section: LossSection, name: str, one: Batch) -> Replayed:
    image, target, valid = one.image, one.target, one.valid
    found: list[str] = []
    checks: dict[str, list[Tensor]] = {"weights": [*net.parameters()], "image": [image], "target": [target[valid]]}
    found += [what for what, values in checks.items() if not all(_finite(v) for v in values)]
    with _watched(net, found):
        raw, _ = net.forward_train(image)
    output = net.activate(raw)
    loss = depth_loss(raw, output, target, valid, section, 1.0, pasted=one.pasted, labelled=one.labelled)
    if not _finite(loss.total):
        found.append("loss")
    net.zero_grad()
    loss.total.backward()
    if not all(_finite(p.grad) for p in net.parameters() if p.grad is not None):
        found.append("gradient")
    parts = {part: float(value.detach()) for part, value in loss.parts.items()}
    where = found[0] if found else "nothing"
    return Replayed(name, float(loss.total.detach()), parts, float(valid.float().mean()), where)


@contextmanager
def _watched(net: nn.Module, found: list[str]) -> Iterator[None]:
    """Note the modules whose output is not finite, innermost first."""

    def look(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            values = output if isinstance(output, tuple) else (output,)
            if not all(_finite(v) for v in values):
                found.append(name)

        return hook

    handles = [module.register_forward_hook(look(name)) for name, module in net.named_modules() if name]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())
