"""The metric fine-tune: an encoder that knows relative depth learns metres from labelled images.

Source: Depth Anything V2 section 7.4 and its released metric code: sigmoid times a maximum depth, the scale-invariant
logarithmic loss, AdamW with poly decay, the encoder's weights taken over and the head started anew.
"""

from __future__ import annotations

from pathlib import Path

import torch

from datk.artifact.files import sha256_file
from datk.config.metric_section import MetricSection
from datk.depth.io_spec import DepthKind
from datk.errors import CheckpointError
from datk.losses.silog import silog_loss
from datk.models.depth_anything import DepthAnything
from datk.models.weights import load_checkpoint, load_encoder
from datk.train.fit_and_save import fit_and_save, training_set
from datk.train.labelled import LabelledSets, labelled_name
from datk.train.loop import Progress, StepLoss
from datk.train.result import TrainResult
from datk.train.samples import Batch
from datk.train.start import fingerprint

NEAREST_M = 1e-3
"""Depth in metres from which on pictures no longer tell nearer from near."""
NAME = "student"
"""The file's name: what a metric recipe exports stands where other recipes have their student."""


def train_metric(
    section: MetricSection,
    data: LabelledSets,
    out: Path,
    *,
    seed: int,
    licence: str,
    progress: Progress | None = None,
    stop_after: int | None = None,
) -> TrainResult:
    """Train on data (its target: MetricTarget); write out/student.safetensors, a metric net, and out/loss.csv.

    licence: of the weights, for the file. Resumes like train_teacher. Raises TrainingError, CheckpointError, DataError,
    UsageError, EnvironmentLacks.
    """
    net, started_from = starting_net(section, seed=seed)
    batches = training_set(
        data,
        section.schedule,
        input_size=section.input_size,
        augment=section.augment,
        seed=seed,
        normalise=False,
    )

    def step(batch: Batch, done: float) -> StepLoss:
        raw, _ = net.forward_train(batch.image)
        depth_m = net.activate(raw.float())  # (B, h, w)
        target_m = 1 / torch.where(batch.valid, batch.target, 1.0)
        loss = silog_loss(
            depth_m, target_m, batch.valid, mean_weight=section.silog_mean_weight, over=section.silog_over
        )
        shown = 1 / depth_m.clamp(min=max(section.min_depth_m, NEAREST_M))  # pictures show disparity, as the target is
        return StepLoss(total=loss, parts={"silog": loss}, output=shown)

    return fit_and_save(
        net,
        step,
        batches,
        section.schedule,
        out,
        name=NAME,
        metadata={
            "role": "metric",
            "training_data": labelled_name(data),
            "licence": licence,
            "input_size": f"{section.input_size[0]}x{section.input_size[1]}",
        },
        fingerprint=fingerprint(
            section,
            seed=seed,
            data=data.digest(),
            start=sha256_file(section.checkpoint) if section.checkpoint else started_from,
        ),
        seed=seed,
        facts={"started_from": started_from, "max_depth_m": section.max_depth_m, "sets": data.sets.counts},
        record={"size": section.size, "max_depth_m": section.max_depth_m},
        sample_name=lambda number: data.key(batches.number(number)),
        progress=progress,
        stop_after=stop_after,
    )


def starting_net(section: MetricSection, *, seed: int) -> tuple[DepthAnything, str]:
    """A metric net with the encoder, or with keep_head everything, of the checkpoint; and which of these, in words.

    Raises CheckpointError for another size, an unreadable file, or keep_head with an encoder alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = DepthAnything(section.size, depth_kind=DepthKind.DEPTH_METRIC_M, max_depth_m=section.max_depth_m)
    if section.checkpoint is None:
        return net, "scratch"
    if section.keep_head:
        found = load_checkpoint(section.checkpoint)
        if found.preset.name != section.size:
            raise CheckpointError(
                f"{section.checkpoint}: holds a {found.preset.name} net, the recipe asks for {section.size}"
            )
        net.load_state_dict(found.net.state_dict())
        return net, "checkpoint"
    net.pretrained.load_state_dict(load_encoder(section.checkpoint, section.size).state_dict())
    return net, "encoder from checkpoint, head random"
