"""The one training loop: teacher, student and whatever comes later run through `fit`, on one process or many.

Everything a step does is a function of (weights, optimiser state, step number, seed): stopping after n steps and
going on for m gives, on a CPU, the very bits of n + m steps in one go. Under torchrun each process takes its share of
a step's images; the loss is the mean over the images of the whole step either way.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datk.config.train_sections import ScheduleSection
from datk.errors import DatkError
from datk.train.average import WeightAverage
from datk.train.chance import seed_step
from datk.train.checkpoint import find_state, read_tensors, save_state
from datk.train.held_out import HeldOut
from datk.train.incident import keep_incident
from datk.train.optimise import gradient_norm, make_moments, moments, optimiser, set_rates
from datk.train.parallel import StepModule, exchange, lay_out
from datk.train.pictures import Pictures
from datk.train.precision import Precision, autocast, choose_device, choose_precision
from datk.train.prefetch import LOADING, Prefetcher
from datk.train.samples import Batch, BatchFunction
from datk.train.schedule import learning_rate_factor, steps_for_budget
from datk.train.trace import Trace
from datk.train.world import World, current_world

Progress = Callable[[int, int], None]
PROBE_STEPS = 6
"""Steps taken and undone to learn the step time; the first two only warm up."""
COLLAPSED_SPREAD = 1e-3
"""Standard deviation over mean magnitude of an output map below which it counts as constant."""


class TrainingError(DatkError):
    """Training cannot go on: the loss is not finite, or the net puts out a constant."""


@dataclass(frozen=True)
class StepLoss:
    """What a step computes from a batch. total: scalar with a graph. parts: scalars for the log. output: (B, H, W).

    total and parts are means over the batch's images that have a valid pixel (Batch.counted), each image by itself:
    then micro-batches and processes add up to what the whole batch would give.
    """

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
    processes: int = 1


def fit(
    module: nn.Module,
    step_function: StepFunction,
    batches: BatchFunction,
    section: ScheduleSection,
    folder: Path,
    *,
    fingerprint: str,
    seed: int = 0,
    progress: Progress | None = None,
    stop_after: int | None = None,
    held_out: HeldOut | None = None,
    sample_name: Callable[[int], str] = str,
    facts: Mapping[str, Any] | None = None,
) -> FitResult:
    """Train module in place and leave folder/loss.csv, timing.csv and a resumable state. All processes call it alike.

    module: everything that learns. batches(step, rank, ranks): a process's share of a step, a pure function.
    fingerprint: digest of the settings and data; a state in folder with another one is refused. seed: what a step may
    draw at random (datk.train.chance). stop_after: pause once that many steps are done in all, state saved (a test's
    or a scheduler's way to interrupt). held_out: what the validation pictures show. sample_name: a sample's number in
    words, for messages. facts: JSON kept with a batch that broke.

    Raises TrainingError (non-finite loss or gradient, collapsed output), CheckpointError (state of another run),
    EnvironmentLacks (device or precision not there), UsageError (processes that do not divide the batch). A
    KeyboardInterrupt or SIGTERM saves the state and is raised again as KeyboardInterrupt.
    """
    started = time.monotonic()
    world = current_world()
    world.check_divides(section.batch_size)
    folder.mkdir(parents=True, exist_ok=True)
    device = choose_device(section.device, index=world.local_rank if world.size > 1 else None)
    precision = choose_precision(section.precision, device)
    module.to(device).train()
    found = find_state(folder, fingerprint=fingerprint)
    run = _Run(module, step_function, section, device, precision, world, seed)
    budget = found[1]["budget"] if found else None
    if found is not None:
        run.load(*found)
    elif section.budget_s is not None:
        step_s = world.from_main(run.measure_step_s(batches))
        spent_s = world.from_main(time.monotonic() - started)
        steps = steps_for_budget(section.budget_s, step_s=step_s, spent_s=spent_s)
        budget = {"budget_s": section.budget_s, "step_s": step_s, "steps": steps}
    total = int(budget["steps"]) if budget else section.steps
    last = total if stop_after is None else min(stop_after, total)
    trace = Trace(folder, done=run.done, main=world.main, tensorboard=section.tensorboard)
    pictures = Pictures(folder, held_out, done=run.done, world=world) if held_out and section.pictures_every else None
    resumed_from, seconds = (run.done if found else None), []

    def save() -> None:
        trace.flush()  # before the state: rows too many are dropped on resume, rows too few would be lost
        save_state(folder, *run.state(fingerprint=fingerprint, budget=budget), step=run.done, world=world)

    if found is None and budget is not None:
        save()  # fixes the fitted number of steps before the first of them
    saved_at = begun = time.monotonic()
    try:
        with (
            _stop_signals(run),
            Prefetcher(
                batches,
                world,
                start=run.done,
                stop=last,
                threads=section.loader_threads,
                record=folder / LOADING if world.main else None,
                pin=device.type == "cuda",
            ) as upcoming,
        ):
            for batch in upcoming:
                waited_s, begun = time.monotonic() - begun, time.monotonic()
                run.save_due = world.main and begun - saved_at > section.checkpoint_every_s
                try:
                    row = run.step(batch, total)
                except _NotFinite as broken:
                    raise _explained(broken, run, folder, sample_name, dict(facts or {})) from None
                seconds.append(time.monotonic() - begun)
                trace.add(row, step_s=seconds[-1], wait_s=waited_s, images=section.batch_size)
                if pictures is not None and (run.done % section.pictures_every == 0 or run.done == total):
                    trace.scalars(pictures.draw(run.look, run.done, run.done / total), group="held out")
                if progress is not None:
                    progress(run.done, total)
                if run.stopped:
                    raise KeyboardInterrupt
                if run.save_agreed:
                    save()
                    saved_at = time.monotonic()
                begun = time.monotonic()
    except KeyboardInterrupt:
        if run.stopped or (world.size == 1 and not run.torn):  # inside the optimiser's update the last state stands
            save()
        raise
    save()
    trace.close()
    if run.done == total:
        run.finish()
    return FitResult(
        steps=run.done,
        step_s=sorted(seconds)[len(seconds) // 2] if seconds else math.nan,
        final_loss=trace.final_loss(run.done),
        precision=precision,
        device=str(device),
        resumed_from=resumed_from,
        budget=budget,
        log=trace.path,
        processes=world.size,
    )


class _NotFinite(Exception):
    """what: loss or gradient, in words. parts: this process's micro-batches at fault."""

    def __init__(self, what: str, parts: list[Batch]) -> None:
        super().__init__(what)
        self.what, self.parts = what, parts


class _Run:
    """Weights, optimiser and the counter they belong to."""

    def __init__(
        self,
        module: nn.Module,
        step_function: StepFunction,
        section: ScheduleSection,
        device: torch.device,
        precision: Precision,
        world: World,
        seed: int,
    ) -> None:
        self.module, self.section = module, section
        self.device, self.precision, self.world, self.seed = device, precision, world, seed
        self.engine = lay_out(StepModule(module, step_function), section, world, device)
        self.stop_asked = self.stopped = self.save_due = self.save_agreed = False
        self._start()

    def _start(self) -> None:
        self.done = 0
        self.torn = False
        self.flat_steps = 0
        self.optimiser = optimiser(self.module, self.section)
        self.average = WeightAverage(self.module, self.section.ema_decay) if self.section.ema_decay else None

    def step(self, batch: Batch, total: int) -> dict[str, float]:
        """One optimiser step on this process's share; returns the log row of the whole step."""
        factor = learning_rate_factor(self.done, total, self.section)
        set_rates(self.optimiser, factor)
        seed_step(self.seed, self.done, self.world.rank)
        parts = list(batch.split(self.section.micro_batch))
        counted = int(self.world.sum(torch.tensor([batch.counted])))
        self.optimiser.zero_grad(set_to_none=True)
        names: list[str] = []
        sums, bad = torch.zeros(0), []
        for number, part in enumerate(parts):
            share = part.counted / max(counted, 1)
            with exchange(self.engine, number == len(parts) - 1):
                with autocast(self.device, self.precision):
                    loss: StepLoss = self.engine(part.to(self.device), self.done / total)
                (loss.total * (share * self.world.size)).backward()  # DDP and FSDP average over processes
            names = list(loss.parts)
            values = torch.stack([loss.total, *loss.parts.values(), _spread(loss.output)]).detach().double().cpu()
            if not math.isfinite(float(values[0])):
                bad.append(part)
            shares = torch.full_like(values, share)
            shares[-1] = len(part.image) / self.section.batch_size
            sums = values * shares if number == 0 else sums + values * shares
        flags = torch.tensor([float(self.stop_asked), float(self.save_due)], dtype=torch.float64)
        sums = self.world.sum(torch.cat([sums, flags]))
        self.stopped, self.save_agreed = bool(sums[-2] > 0), bool(sums[-1] > 0)
        row = dict(zip(["loss", *names, "spread"], sums.tolist(), strict=False))
        if not math.isfinite(row["loss"]):
            words = ", ".join(f"{name} {row[name]:.3g}" for name in names)
            raise _NotFinite(f"the loss is {row['loss']} ({words})", bad)
        self._check_collapse(row["spread"])
        norm = gradient_norm(self.module, limit=self.section.grad_clip)
        if not math.isfinite(norm):
            raise _NotFinite(f"the gradient's norm is {norm} though the loss is finite", parts)
        self.torn = True
        self.optimiser.step()
        if self.average is not None:
            self.average.update(self.module)
        self.done += 1
        self.torn = False
        return {"step": self.done, **row, "grad_norm": norm, "lr_factor": factor}

    def look(self, batch: Batch, done: float) -> StepLoss:
        """What a step would compute on a batch, without learning from it."""
        self.engine.eval()
        with torch.no_grad(), autocast(self.device, self.precision):
            loss: StepLoss = self.engine(batch.to(self.device), done)
        self.engine.train()
        return loss

    def _check_collapse(self, spread: float) -> None:
        self.flat_steps = self.flat_steps + 1 if spread < COLLAPSED_SPREAD else 0
        if self.flat_steps >= self.section.collapse_window:
            raise TrainingError(
                f"step {self.done}: the net has put out a constant for {self.flat_steps} steps (spread {spread:.1e})",
                hint="from scratch use loss.output: raw, an anchor_weight, a gradient_ramp and a warm-up",
            )

    def measure_step_s(self, batches: BatchFunction) -> float:
        """Median seconds of a step, loading included, on steps that are undone afterwards."""
        before = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        seconds = []
        for index in range(PROBE_STEPS):
            begun = time.monotonic()
            self.step(batches(index, self.world.rank, self.world.size), total=PROBE_STEPS)
            seconds.append(time.monotonic() - begun)
        self.module.load_state_dict(before)
        self._start()
        return sorted(seconds[2:])[len(seconds[2:]) // 2]

    def state(self, *, fingerprint: str, budget: dict[str, float] | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, facts) that load goes on from."""
        tensors = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        kept, numbers = moments(self.module, self.optimiser)
        tensors |= {f"optimiser.{name}": value for name, value in kept.items()}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.values.items()}
        return tensors, {
            "fingerprint": fingerprint,
            "step": self.done,
            "images": self.done * self.section.batch_size,
            "processes": self.world.size,
            "flat_steps": self.flat_steps,
            "budget": budget,
            "average_updates": self.average.updates if self.average else 0,
            "optimiser": numbers,
        }

    def load(self, path: Path, facts: dict[str, Any]) -> None:
        """Go on from what state gave, whatever the number of processes then and now."""
        self.done, self.flat_steps = facts["step"], facts["flat_steps"]
        made = make_moments(self.module, self.optimiser, facts["optimiser"])
        tensors = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        tensors |= {f"optimiser.{name}": value for name, value in made.items()}
        if self.average is not None:
            self.average.updates = facts["average_updates"]
            tensors |= {f"average.{name}": value for name, value in self.average.values.items()}
        read_tensors(path, tensors, world=self.world)

    def finish(self) -> None:
        """Put the averaged weights, where asked for, into the module."""
        if self.average is not None:
            self.average.copy_to(self.module)


def _explained(
    broken: _NotFinite, run: _Run, folder: Path, sample_name: Callable[[int], str], facts: dict[str, Any]
) -> TrainingError:
    """The error a user sees, after what is needed to look into it has been written."""
    facts |= {"seed": run.seed, "precision": run.precision, "what": broken.what}
    kept = keep_incident(
        folder, run.module, broken.parts, step=run.done, facts=facts, sample_name=sample_name, world=run.world
    )
    return TrainingError(
        f"step {run.done}: {broken.what}; images: {kept.words()}",
        hint=f"datk train replay {kept.folder} runs that batch again; lower encoder_lr and decoder_lr, or set "
        "grad_clip: 1.0; the last good state is kept",
    )


def _spread(output: Tensor) -> Tensor:
    """Mean over images of standard deviation / mean magnitude of the map, a scalar. output: (B, H, W)."""
    flat = output.detach().float().flatten(1)
    return (flat.std(1, correction=0) / (flat.abs().mean(1) + 1e-12)).mean()


@contextmanager
def _stop_signals(run: _Run) -> Iterator[None]:
    """SIGTERM (a scheduler's warning), and SIGINT where several processes train, stop all after the same step."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = (signal.SIGTERM, signal.SIGINT) if run.world.size > 1 else (signal.SIGTERM,)

    def ask(*_: object) -> None:
        run.stop_asked = True

    before = {number: signal.signal(number, ask) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
