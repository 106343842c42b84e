"""The training step against a plain eager one, in one run; operations and memory per size.

Plain: float32, attention written out (bench_net), losses image by image as one would first write them, an optimiser
that walks over the parameters, the heap as the C library has it. Ours: `datk.train.loop` as recipes run it, in a
process as the command sets it up. Both load their batch while the net waits.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datk.config.loss_section import LossSection
from datk.config.train_sections import AugmentSection, ScheduleSection
from datk.depth.io_spec import Size
from datk.models.depth_anything import DepthAnything
from datk.train.cost import cost_of_one_image
from datk.train.loop import StepLoss, _Run
from datk.train.objective import depth_loss
from datk.train.plan import BF16_ACTIVATIONS, GIB
from datk.train.precision import has_native_bf16
from datk.train.projection import PAPER_SIZE
from datk.train.samples import Batch, Batches, TrainingSample
from datk.train.start import fresh_net
from datk.train.world import World
from tests.bench.bench_net import plain
from tests.bench.heaps import as_in_a_plain_script, as_in_datk

CASES: tuple[tuple[str, Size, int, int], ...] = (
    ("tiny", (98, 126), 12, 5),
    ("small", (252, 252), 2, 3),
    ("small", (518, 518), 1, 3),
)
"""Net, (height, width), images a step, timed steps of each. The last is the paper's size."""
CPU = torch.device("cpu")
Heap = Callable[[], None]
SCHEDULE = ScheduleSection(optimiser="adamw", weight_decay=0.05, grad_clip=1.0, device="cpu", precision="fp32")
LOSS = LossSection(output="raw", top_loss_fraction=0.1, scale_floor=1e-2)


class Pictures:
    """Sixteen pictures in memory: the data road is timed by its own bench."""

    def __len__(self) -> int:
        return 16

    def load(self, index: int) -> TrainingSample:
        rng = np.random.default_rng(index)
        disparity = rng.random((64, 64), dtype=np.float32)
        image = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
        return TrainingSample(image, disparity, rng.random((64, 64)) > 0.1)


def plain_loss(raw: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """The recipe's loss, image by image: median and deviation, trimmed L1, four scales of gradients."""
    total = raw.sum() * 0.0
    for image in range(raw.shape[0]):
        mask = valid[image]
        pred, truth = _plain_normalised(raw[image], mask), _plain_normalised(target[image], mask)
        error = (pred - truth).abs()
        limit = torch.quantile(error[mask].detach(), 1 - LOSS.top_loss_fraction)
        kept = mask & (error <= limit)
        total = total + error[kept].mean()
        for scale in range(LOSS.gradient_scales):
            step = 2**scale
            difference, seen = (pred - truth)[::step, ::step], kept[::step, ::step]
            across = (difference[:, 1:] - difference[:, :-1]).abs()[seen[:, 1:] & seen[:, :-1]].sum()
            down = (difference[1:] - difference[:-1]).abs()[seen[1:] & seen[:-1]].sum()
            total = total + LOSS.gradient_weight * (across + down) / seen.sum().clamp(min=1)
    return total / raw.shape[0]


def _plain_normalised(values: Tensor, mask: Tensor) -> Tensor:
    shift = values[mask].median()
    scale = (values[mask] - shift).abs().mean().clamp(min=LOSS.scale_floor)
    return (values - shift) / scale


def plain_step(net: DepthAnything, batches: Batches) -> Callable[[], float]:
    """Load, forward, backward, clip, Adam, one after the other."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=5e-6, weight_decay=0.05, foreach=False, fused=False)
    done = 0

    def call() -> float:
        nonlocal done
        batch = batches(done)
        optimiser.zero_grad()
        loss = plain_loss(net.forward_train(batch.image)[0], batch.target, batch.valid)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=False)
        optimiser.step()
        done += 1
        return float(loss.detach())

    return call


def our_step(net: DepthAnything, batches: Batches, batch_size: int, precision: str) -> Callable[[], float]:
    """The loop's own step, its log row and checks included."""

    def step(batch: Batch, done: float) -> StepLoss:
        raw, _ = net.forward_train(batch.image)
        return depth_loss(raw, net.activate(raw), batch.target, batch.valid, LOSS, done)

    chosen = "bf16" if precision == "bf16" else "fp32"
    section = SCHEDULE.model_copy(update={"batch_size": batch_size, "encoder_lr": 5e-6, "decoder_lr": 5e-6})
    run = _Run(net, step, section, CPU, chosen, World(), 0)  # type: ignore[arg-type]

    def call() -> float:
        return run.step(batches(run.done), 1000)["loss"]

    return call


def interleaved(calls: list[tuple[Callable[[], float], Heap]], runs: int) -> list[float]:
    """Median seconds of each, in turn, so that the machine's mood meets all, each after an untimed call in its heap."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(runs):
        for (call, heap), record in zip(calls, times, strict=True):
            heap()
            call()
            begun = time.perf_counter()
            loss = call()
            record.append(time.perf_counter() - begun)
            assert math.isfinite(loss)
    return [median(record) for record in times]


def step_rows() -> list[dict[str, Any]]:
    """Ours / plain, below 1 is faster."""
    native = has_native_bf16(CPU)
    rows: list[dict[str, Any]] = []
    for size, side, batch_size, runs in CASES:
        ours = fresh_net(size, seed=0).train()
        nets = [ours, plain(ours).train(), *([fresh_net(size, seed=0).train()] if native else [])]
        batches = Batches(Pictures(), input_size=side, augment=AugmentSection(), batch_size=batch_size, seed=0)
        calls = [
            (our_step(nets[0], batches, batch_size, "fp32"), as_in_datk),
            (plain_step(nets[1], batches), as_in_a_plain_script),
        ]
        if native:
            calls.append((our_step(nets[2], batches, batch_size, "bf16"), as_in_datk))
        times = interleaved(calls, runs)
        name = f"{size} training step {side[0]}x{side[1]}, batch {batch_size}"
        reference = f"plain eager fp32: {times[1] * 1e3:.4g} ms"
        rows.append(_row(f"{name}, fp32", times[0] * 1e3, "ms", runs, reference, times[0] / times[1]))
        if native:
            rows.append(_row(f"{name}, bf16", times[2] * 1e3, "ms", runs, reference, times[2] / times[1]))
        else:
            rows.append(_row(f"{name}, bf16: not measured, no bf16 in this CPU", None, "ms", 0, "", None))
        del nets, calls, ours
        gc.collect()
    return rows


def size_rows() -> list[dict[str, Any]]:
    """Operations and memory of a training pass of one image at the paper's size, counted on shapes."""
    rows = []
    for size in ("tiny", "small", "base", "large", "giant"):
        cost = cost_of_one_image(size, PAPER_SIZE)
        words = f"forward {cost.flops_forward / 1e9:,.4g}; with recomputation {cost.flops_recomputing / 1e9:,.5g}"
        rows.append(_row(f"{size} 518x518, counted", cost.flops / 1e9, "GFLOP/image", 1, words, None))
        fixed = 16 * cost.trainable / GIB
        kept, redone = (BF16_ACTIVATIONS * b / GIB for b in (cost.kept, cost.kept_recomputing))
        words = f"+ activations an image in bf16: {kept:.2f}, recomputed {redone:.2f}"
        rows.append(_row(f"{size} weights, gradients, Adam", fixed, "GiB", 1, words, None))
    return rows


def run() -> list[dict[str, Any]]:
    """Rows of name, value, unit, n, reference, ratio."""
    return step_rows() + size_rows()


def _row(name: str, value: float | None, unit: str, n: int, reference: str, ratio: float | None) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "n": n, "reference": reference, "ratio": ratio}
