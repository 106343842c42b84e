"""A real but very small Depth Anything, and jobs on it that can run in processes of their own.

`torchrun ... micro.py '[{...}, ...]'` runs jobs in turn in every process; `run_job` is the same in this one.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from datk.config.train_sections import AugmentSection, LossSection, ScheduleSection
from datk.models.depth_anything import DepthAnything
from datk.models.presets import Preset
from datk.train.loop import FitResult, StepFunction, StepLoss, fit
from datk.train.objective import depth_loss
from datk.train.samples import Batch, Batches, TrainingSample
from datk.train.world import joined

MICRO = Preset(
    name="micro",
    dim=64,
    depth=4,
    heads=1,
    ffn="mlp",
    taps=(0, 1, 2, 3),
    features=8,
    out_channels=(8, 8, 8, 8),
    licence="Apache-2.0",
)
LOSS = LossSection(output="raw", top_loss_fraction=0.1, scale_floor=1e-2, anchor_weight=0.5)
SCHEDULE = ScheduleSection(
    steps=6,
    batch_size=6,
    optimiser="adamw",
    encoder_lr=1e-3,
    decoder_lr=1e-3,
    weight_decay=0.01,
    device="cpu",
    precision="fp32",
    ema_decay=0.9,
    grad_clip=1.0,
)


class MaskedSource:
    """Ten noisy pictures; each has another share of valid pixels, one none at all."""

    def __len__(self) -> int:
        return 10

    def load(self, index: int) -> TrainingSample:
        rng = np.random.default_rng(index)
        disparity = rng.random((28, 28), dtype=np.float32)
        valid = rng.random((28, 28)) > index / 10
        if index == 4:
            valid[:] = False
        return TrainingSample((disparity[..., None] * 255).repeat(3, 2).astype(np.uint8), disparity, valid)


def micro_net() -> DepthAnything:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DepthAnything(MICRO)


def micro_batches() -> Batches:
    return Batches(MaskedSource(), input_size=(28, 28), augment=AugmentSection(), batch_size=6, seed=0)


def micro_step(net: DepthAnything, *, noisy: bool) -> StepFunction:
    """noisy: draw from the three global generators, as a loss may."""

    def step(batch: Batch, done: float) -> StepLoss:
        image = batch.image
        if noisy:
            image = image + 0.01 * torch.randn_like(image) + 0.01 * random.random() + 0.01 * np.random.rand()
        raw, _ = net.forward_train(image)
        return depth_loss(raw, net.activate(raw), batch.target, batch.valid, LOSS, done)

    return step


def run_job(job: dict[str, Any]) -> tuple[FitResult, nn.Module]:
    """job: folder, and optionally schedule (fields to change), stop_after, noisy, bad_from (done share with a nan)."""
    net = micro_net()
    step = micro_step(net, noisy=job.get("noisy", False))
    result = fit(
        net,
        step,
        micro_batches(),
        SCHEDULE.model_copy(update=job.get("schedule", {})),
        Path(job["folder"]),
        fingerprint="micro",
        stop_after=job.get("stop_after"),
    )
    return result, net


def run_and_die(job: dict[str, Any], events: int) -> None:
    """run_job, ended by SIGKILL at the events-th thing it does to the files of its state: open, rename, remove ..."""
    left = events

    def watch(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") and "/state" in str(args[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    run_job(job)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined(cuda=False):
        for item in json.loads(sys.argv[1]):
            run_job(item)
