"""Stage 65: every precision of a target at one bucket against the best float one, and which of them to ship."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.artifact.files import write_json
from datk.artifact.manifest import Manifest, Metric
from datk.config.schema import PhotosSection
from datk.depth.io_spec import Size
from datk.depth.preprocess import bucket_image, read_image
from datk.depth.runner import Runner
from datk.errors import DataError
from datk.evaluate.target_verdict import FILE_NAME, PrecisionVerdict, TargetVerdict
from datk.evaluate.verdict_rule import FLOAT, Choice, Compared, Contestant, choose
from datk.evaluate.verdict_statistics import LEAST_ROUNDS, changes, speedup
from datk.measure.timing import Patience, interleaved_times, latency_from_times
from datk.pipeline.running_cost import RunningCost, running_cost, without
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps.photos import photo_set
from datk.targets.base import Target

WARMUP = 3
KEPT = (
    *("size_bytes", "bench_accuracy", "correlation_vs_float_median", "correlation_vs_float_worst"),
    *("abs_rel_vs_teacher", "boundary_f1_vs_teacher", "boundary_recall_vs_teacher"),
    *("abs_rel_vs_float", "boundary_f1_vs_float", "boundary_recall_vs_float"),
)
"""Figures of the validate stage that the verdict repeats beside its own."""


@dataclass(frozen=True)
class Member:
    """One precision of the target at the bucket."""

    precision: str
    export: str
    validate: str


@dataclass(frozen=True)
class _Seen:
    """A member whose stages were built."""

    precision: str
    built: Manifest
    measured: Manifest
    details: Mapping[str, Any]
    artifact: Path
    export: str

    @property
    def size_bytes(self) -> float:
        value = self.measured.metrics["size_bytes"].value
        assert value is not None, "an artifact that was measured has a size"
        return value

    @property
    def passed(self) -> bool:
        return self.measured.verdict is not None and self.measured.verdict.status == "passed"

    @property
    def not_run(self) -> str:
        """Why this machine could not run it; empty where it could."""
        return str(self.measured.facts.get("not_run", ""))

    @property
    def unverified(self) -> bool:
        return self.measured.verdict is not None and self.measured.verdict.status == "unverified"

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(self.measured.verdict.reasons) if self.measured.verdict is not None else ()

    @property
    def sha256(self) -> str:
        return next(o.sha256 for o in self.built.outputs if o.path == self.built.facts["artifact"])


def run(
    target: Target, size: Size, members: Sequence[Member], rounds: int, photos: PhotosSection, stage: StageRun
) -> Outcome:
    """Compare what of `members` was built; a precision that a compiler refused is not among them.

    rounds: of the interleaved timing. Raises DataError when a measurement it reads is damaged.
    """
    seen = [_read(m, stage) for m in members if m.validate in stage.needs]
    held_out = photo_set(photos.validation, "validation", photos.validation_count, seed=stage.seed)
    image = bucket_image(read_image(held_out.paths[0]), size)
    times, why, label = _times(target, seen, image, rounds, stage.reporter.progress)
    costs = {s.precision: _cost(target, s, image, why) for s in seen}
    contestants = [
        Contestant(
            precision=s.precision,
            passed=s.passed,
            why_not=next(iter(s.reasons), ""),
            not_run=s.not_run if s.unverified else "",
            size_bytes=s.size_bytes,
        )
        for s in seen
    ]
    good = [s for s in seen if s.passed]
    pairs = {
        (a.precision, b.precision): _compare(a, b, times, why)
        for a in good
        for b in good
        if a is not b and b.precision in FLOAT
    }
    choice = choose(contestants, pairs)
    verdict = TargetVerdict(
        target=target.name,
        input_size=size,
        ship=choice.ship,
        base=choice.base,
        sentence=choice.sentence,
        speed_by=f"speed on this machine by {label}" if times and len(good) > 1 else "",
        rows=tuple(_row(s, choice, pairs, times, why, costs[s.precision]) for s in seen),
    )
    write_json(stage.out / FILE_NAME, verdict.model_dump(mode="json"))
    stage.reporter.note(verdict.headline)
    return Outcome(
        facts={"target": target.name, "input_size": list(size), "ship": choice.ship, "verdict": verdict.headline}
    )


def _read(member: Member, stage: StageRun) -> _Seen:
    folder, built = stage.needs[member.export]
    measured_in, measured = stage.needs[member.validate]
    path = measured_in / "details.json"
    try:
        details = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable ({error})", hint="`datk run RECIPE --from validate --force`") from error
    return _Seen(member.precision, built, measured, details, folder / built.facts["artifact"], member.export)


def _times(
    target: Target, seen: Sequence[_Seen], image: NDArray[np.uint8], rounds: int, progress: Callable[..., None]
) -> tuple[dict[str, list[float]], str, str]:
    """(milliseconds by precision, why there are none, label of the runner). All take turns in every round."""
    label = ""
    for one in seen:
        if (why := one.not_run or target.stand_ins.get(str(one.measured.facts["label"]))) is not None:
            return {}, why, label
    with ExitStack() as opened:
        runners: list[Runner] = []
        for one in seen:
            assert one.built.contract is not None
            progress(len(runners), len(seen), "open to time")
            runner = target.open_for_latency(one.artifact, one.built.contract)
            opened.callback(runner.close)
            label = runner.label
            runners.append(runner)
        if rounds < LEAST_ROUNDS:
            return {}, f"{rounds} timed runs, at least {LEAST_ROUNDS} are needed", label
        progress(len(seen), len(seen), "time in turns")
        calls = [partial(r.predict, image) for r in runners]
        times = interleaved_times(calls, warmup=WARMUP, runs=rounds, settle=True, patience=Patience())
    return dict(zip([s.precision for s in seen], times, strict=True)), "", label


def _cost(target: Target, one: _Seen, image: NDArray[np.uint8], why: str) -> RunningCost:
    assert one.built.contract is not None
    no_time = bool(one.not_run) or why in target.stand_ins.values()
    return without(why) if no_time else running_cost(target, one.artifact, one.built.contract, image)


def _compare(a: _Seen, b: _Seen, times: Mapping[str, list[float]], why: str) -> Compared:
    accuracy, dense, edges = changes(a.details, b.details)
    return Compared(
        speed=speedup(times[a.precision], times[b.precision]) if times else None,
        no_speed="" if times else why,
        smaller=b.size_bytes / a.size_bytes,
        accuracy=accuracy,
        dense=dense,
        edges=edges,
    )


def _row(
    one: _Seen,
    choice: Choice,
    pairs: Mapping[tuple[str, str], Compared],
    times: Mapping[str, list[float]],
    why: str,
    cost: RunningCost,
) -> PrecisionVerdict:
    decision = next(d for d in choice.decisions if d.precision == one.precision)
    compared = pairs.get((one.precision, choice.base)) if choice.base is not None else None
    return PrecisionVerdict(
        precision=one.precision,
        artifact=one.export,
        sha256=one.sha256,
        judged_by=str(one.measured.facts.get("label", "nobody")),
        passed=one.passed,
        reasons=one.reasons,
        status=decision.status,
        words=decision.words,
        metrics={name: one.measured.metrics[name] for name in KEPT if name in one.measured.metrics}
        | _latency(times.get(one.precision), why)
        | cost.metrics,
        compared=compared,
    )


def _latency(times_ms: list[float] | None, why: str) -> dict[str, Metric]:
    if times_ms is None:
        return {name: Metric(value=None, unit="ms", not_measured=why) for name in ("latency_p50_ms", "latency_p90_ms")}
    latency = latency_from_times(times_ms, warmup=WARMUP)
    return {
        "latency_p50_ms": Metric(value=latency.p50_ms, unit="ms", n=latency.n, higher_is_better=False),
        "latency_p90_ms": Metric(value=latency.p90_ms, unit="ms", n=latency.n, higher_is_better=False),
    }
