"""The tail every training shares: fit, lift the last bias above the ReLU where asked, write the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from datk.artifact.files import sha256_file
from datk.config.beyond_sections import CrossContextSection
from datk.config.train_sections import AugmentSection, LossSection, ScheduleSection
from datk.data.quarantine import Quarantine
from datk.depth.io_spec import Size
from datk.models.depth_anything import DepthAnything, same_shape
from datk.models.weights import save_checkpoint
from datk.train.held_out import HeldOut, Without, hold_out
from datk.train.loop import Progress, StepFunction, fit
from datk.train.mixed import MixedBatches
from datk.train.objective import lift_above_relu
from datk.train.parallel import whole_state
from datk.train.result import TrainResult
from datk.train.samples import Batches, SampleSource, order_of
from datk.train.world import current_world

LIFT_BATCHES = 4
"""Training batches the final lift is measured on."""


@dataclass(frozen=True)
class TrainingSet:
    """batches: what is trained on. held_out: what the validation pictures show, None without them."""

    batches: Batches | MixedBatches
    held_out: HeldOut | None
    images: int
    quarantine: Quarantine | None = None
    """Bad files met so far, where the source keeps such a list."""

    def number(self, index: int) -> int:
        """The number in the whole source of a sample trained on."""
        source = self.batches.source
        return source.number(index) if isinstance(source, Without) else index


def training_set(
    source: SampleSource,
    schedule: ScheduleSection,
    *,
    input_size: Size,
    augment: AugmentSection,
    seed: int,
    keep_clean: bool = False,
    cross_context: CrossContextSection | None = None,
    normalise: bool = True,
) -> TrainingSet:
    """Batches from a source, and with schedule.pictures_every the samples held out of them. Options: see Batches."""
    options: dict[str, Any] = {
        "input_size": input_size,
        "seed": seed,
        "keep_clean": keep_clean,
        "normalise": normalise,
    }
    held_out = None
    quarantine = getattr(source, "quarantine", None)
    if schedule.pictures_every:
        source, kept = hold_out(source, schedule.held_out)
        plain = AugmentSection(flip=False)
        still = Batches(kept, augment=plain, batch_size=len(kept), **options)
        held_out = HeldOut(still.at(range(len(kept))))
    batches = Batches(
        source,
        augment=augment,
        batch_size=schedule.batch_size,
        cross_context=cross_context,
        order=order_of(source),
        **options,
    )
    return TrainingSet(batches, held_out, len(source), quarantine)


def fit_and_save(
    net: DepthAnything,
    step: StepFunction,
    data: TrainingSet,
    schedule: ScheduleSection,
    out: Path,
    *,
    name: str,
    metadata: Mapping[str, str],
    fingerprint: str,
    seed: int,
    learner: nn.Module | None = None,
    loss: LossSection | None = None,
    facts: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
    sample_name: Callable[[int], str] = str,
    progress: Progress | None = None,
    stop_after: int | None = None,
) -> TrainResult:
    """Train and write out/NAME.safetensors beside loss.csv. Every process calls it alike; the main one writes.

    learner: what learns, when that is more than net (a bridge to another width). loss: with output: raw the last bias
    is lifted. metadata: into the file. facts: into the result. record, sample_name: see fit.
    """
    result = fit(
        learner or net,
        step,
        data.batches,
        schedule,
        out,
        fingerprint=fingerprint,
        seed=seed,
        progress=progress,
        stop_after=stop_after,
        held_out=data.held_out,
        sample_name=sample_name,
        facts=record,
    )
    world = current_world()
    weights = out / f"{name}.safetensors"
    found = dict(facts or {}) | {"images": data.images}
    if data.quarantine is not None:
        found["unreadable"] = len(data.quarantine)
    state = whole_state(net, keep=world.main)
    if world.main:
        with torch.device("cpu"):
            finished = same_shape(net)
        finished.load_state_dict(state)
        finished.eval()
        if loss is not None:
            raw = loss.output == "raw"
            found["bias_lift"] = lift_above_relu(finished, _lift_images(data.batches)) if raw else 0.0
        save_checkpoint(finished, weights, metadata=dict(metadata))
    world.wait()
    return TrainResult(weights, sha256_file(weights), result, found)


def _lift_images(batches: Batches | MixedBatches) -> list[torch.Tensor]:
    return [batches(number).image for number in range(LIFT_BATCHES)]
