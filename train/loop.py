"""The one training loop: teacher, student and whatever comes later run through `fit`.

Everything a step does is a function of (weights, optimiser state, step number, seed): stopping after n steps and
going on for m gives, on a CPU, the very bits of n + m steps in one go.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datk.artifact.files import atomic_path
from datk.config.train_sections import ScheduleSection
from datk.errors import DatkError
from datk.train.average import WeightAverage
from datk.train.checkpoint import load_state, save_state
from datk.train.precision import Precision, autocast, choose_device, choose_precision
from datk.train.prefetch import Prefetcher
from datk.train.samples import Batch
from datk.train.schedule import learning_rate_factor, steps_for_budget

Progress = Callable[[int, int], None]
PROBE_STEPS = 6
"""Steps taken and undone to learn the step time; the first two only warm up."""
COLLAPSED_SPREAD = 1e-3
"""Standard deviation over mean magnitude of an output map below which it counts as constant."""


class TrainingError(DatkError):
    """Training cannot go on: the loss is not finite, or the net puts out a constant."""


@dataclass(frozen=True)
class StepLoss:
    """What a step computes. total: scalar with a graph. parts: scalars for the log. output: (B, H, W)."""

    total: Tensor
    parts: dict[str, Tensor]
    output: Tensor


StepFunction = Callable[[Batch, float], StepLoss]
"""(batch on the device, done fraction of the steps 0..1) -> StepLoss; runs the net, returns losses in float32."""


@dataclass(frozen=True)
class FitResult:
    """steps: optimiser steps in all. step_s: median seconds of a step in this run, nan when none was taken."""

    steps: int
    step_s: float
    final_loss: float
    """Mean total loss of the last tenth of the steps, as logged."""
    precision: Precision
    device: str
    resumed_from: int | None
    budget: dict[str, float] | None
    """budget_s, measured step_s and the steps fitted to it; None when the steps were given."""
    log: Path


def parameter_groups(module: nn.Module, section: ScheduleSection) -> list[dict[str, Any]]:
    """Optimiser groups of the trainable parameters: the encoder (`pretrained.`) and the rest, decayed or not.

    Decay spares vectors (biases, norms, LayerScale), position embedding and tokens. `peak_lr` keeps the peak
    learning rate that learning_rate_factor scales.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = section.encoder_lr if "pretrained." in name else section.decoder_lr
        spared = parameter.ndim < 2 or name.endswith(("pos_embed", "cls_token"))
        groups.setdefault((rate, 0.0 if spared else section.weight_decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "peak_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def fit(
    module: nn.Module,
    step_function: StepFunction,
    batches: Callable[[int], Batch],
    section: ScheduleSection,
    folder: Path,
    *,
    fingerprint: str,
    progress: Progress | None = None,
    stop_after: int | None = None,
) -> FitResult:
    """Train module in place and leave folder/loss.csv and a resumable state.

    module: everything that learns. batches(step): the batch of a step, a pure function. fingerprint: digest of
    the settings and data; a state in folder with another one is refused. stop_after: pause once that many
    steps are done in all, state saved (a test's or a scheduler's way to interrupt).

    Raises TrainingError (non-finite loss or gradient, collapsed output), CheckpointError (state of another run),
    EnvironmentLacks (device or precision not there). A KeyboardInterrupt saves the state and is raised again.
    """
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    device = choose_device(section.device)
    precision = choose_precision(section.precision, device)
    module.to(device).train()
    state = load_state(folder, fingerprint=fingerprint)
    run = _Run(module, step_function, section, device, precision)
    budget = state["budget"] if state else None
    if state is not None:
        run.load(state)
    elif section.budget_s is not None:
        step_s = run.measure_step_s(batches)
        steps = steps_for_budget(section.budget_s, step_s=step_s, spent_s=time.monotonic() - started)
        budget = {"budget_s": section.budget_s, "step_s": step_s, "steps": steps}
    total = int(budget["steps"]) if budget else section.steps
    last = total if stop_after is None else min(stop_after, total)
    log = _Log(folder / "loss.csv", done=run.done)
    resumed_from, seconds = (run.done if state else None), []

    def save() -> None:
        save_state(folder, {**run.state(), "fingerprint": fingerprint, "budget": budget})
        log.flush()

    if state is None:
        save()  # fixes the fitted number of steps before the first of them
    saved_at = time.monotonic()
    try:
        with Prefetcher(batches, start=run.done, stop=last, threads=section.loader_threads) as upcoming:
            for batch in upcoming:
                begun = time.monotonic()
                log.add(run.step(batch, total))
                seconds.append(time.monotonic() - begun)
                if progress is not None:
                    progress(run.done, total)
                if time.monotonic() - saved_at > section.checkpoint_every_s:
                    save()
                    saved_at = time.monotonic()
    except KeyboardInterrupt:
        if not run.torn:  # inside the optimiser's update the last checkpoint stands
            save()
        raise
    save()
    if run.done == total:
        run.finish()
    return FitResult(
        steps=run.done,
        step_s=sorted(seconds)[len(seconds) // 2] if seconds else math.nan,
        final_loss=log.mean_of_last(max(1, run.done // 10)),
        precision=precision,
        device=str(device),
        resumed_from=resumed_from,
        budget=budget,
        log=log.path,
    )


class _Run:
    """Weights, optimiser and the counter they belong to."""

    def __init__(
        self,
        module: nn.Module,
        step_function: StepFunction,
        section: ScheduleSection,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.module, self.step_function, self.section = module, step_function, section
        self.device, self.precision = device, precision
        self._start()

    def _start(self) -> None:
        self.done = 0
        self.torn = False
        self.flat_steps = 0
        groups = parameter_groups(self.module, self.section)
        kind = torch.optim.AdamW if self.section.optimiser == "adamw" else torch.optim.Adam
        self.optimiser = kind(groups, betas=(self.section.beta1, self.section.beta2), fused=True)
        self.average = WeightAverage(self.module, self.section.ema_decay) if self.section.ema_decay else None

    def step(self, batch: Batch, total: int) -> dict[str, float]:
        """One optimiser step; returns the log row."""
        factor = learning_rate_factor(self.done, total, self.section)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak_lr"] * factor
        with autocast(self.device, self.precision):
            loss = self.step_function(batch.to(self.device), self.done / total)
        value = float(loss.total.detach())
        if not math.isfinite(value):
            parts = ", ".join(f"{name} {float(part.detach()):.3g}" for name, part in loss.parts.items())
            raise TrainingError(
                f"step {self.done}: the loss is {value} ({parts})",
                hint="lower encoder_lr and decoder_lr, or set grad_clip: 1.0; the last good state is kept",
            )
        spread = _spread(loss.output.detach())
        self._check_collapse(spread)
        self.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        norm = self._gradient_norm()
        self.torn = True
        self.optimiser.step()
        if self.average is not None:
            self.average.update(self.module)
        self.done += 1
        self.torn = False
        parts_now = {name: float(part.detach()) for name, part in loss.parts.items()}
        return {"step": self.done, "loss": value, **parts_now, "spread": spread, "grad_norm": norm, "lr_factor": factor}

    def _gradient_norm(self) -> float:
        limit = self.section.grad_clip if self.section.grad_clip is not None else math.inf
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm = float(nn.utils.clip_grad_norm_(parameters, limit))
        if not math.isfinite(norm):
            raise TrainingError(
                f"step {self.done}: the gradient's norm is {norm} though the loss is finite",
                hint="lower the learning rates or raise loss.scale_floor; the last good state is kept",
            )
        return norm

    def _check_collapse(self, spread: float) -> None:
        self.flat_steps = self.flat_steps + 1 if spread < COLLAPSED_SPREAD else 0
        if self.flat_steps >= self.section.collapse_window:
            raise TrainingError(
                f"step {self.done}: the net has put out a constant for {self.flat_steps} steps (spread {spread:.1e})",
                hint="from scratch use loss.output: raw, an anchor_weight, a gradient_ramp and a warm-up",
            )

    def measure_step_s(self, batches: Callable[[int], Batch]) -> float:
        """Median seconds of a step, loading included, on steps that are undone afterwards."""
        before = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        seconds = []
        for index in range(PROBE_STEPS):
            begun = time.monotonic()
            self.step(batches(index), total=PROBE_STEPS)
            seconds.append(time.monotonic() - begun)
        self.module.load_state_dict(before)
        self._start()
        return sorted(seconds[2:])[len(seconds[2:]) // 2]

    def state(self) -> dict[str, Any]:
        return {
            "done": self.done,
            "flat_steps": self.flat_steps,
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state() if self.average else None,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.done, self.flat_steps = state["done"], state["flat_steps"]
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average is not None:
            self.average.load(state["average"])

    def finish(self) -> None:
        """Put the averaged weights, where asked for, into the module."""
        if self.average is not None:
            self.average.copy_to(self.module)


def _spread(output: Tensor) -> float:
    """Mean over images of standard deviation / mean magnitude of the map. output: (B, H, W)."""
    flat = output.float().flatten(1)
    return float((flat.std(1, correction=0) / (flat.abs().mean(1) + 1e-12)).mean())


class _Log:
    """loss.csv: one row a step; on resume the rows after the restored step are dropped, so that none is doubled."""

    def __init__(self, path: Path, *, done: int) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as handle:
                self.rows = [r for r in map(_numbers, csv.DictReader(handle)) if r["step"] <= done]
        self.written = 0
        with atomic_path(path) as part:
            part.touch()
            self._append(part)

    def add(self, row: dict[str, float]) -> None:
        self.rows.append(row)

    def flush(self) -> None:
        self._append(self.path)

    def _append(self, path: Path) -> None:
        if self.written == len(self.rows):
            return
        with path.open("a", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(self.rows[0]))
            if self.written == 0:
                writer.writeheader()
            writer.writerows(self.rows[self.written :])
        self.written = len(self.rows)

    def mean_of_last(self, count: int) -> float:
        losses = [row["loss"] for row in self.rows[-count:]]
        return math.fsum(losses) / len(losses) if losses else math.nan


def _numbers(row: dict[str, str]) -> dict[str, float]:
    return {name: int(text) if name == "step" else float(text) for name, text in row.items()}
