"""A benchmark as a list of images that can be scored in any order, by anyone, and summed up afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from datk.depth.runner import Runner
from datk.errors import UsageError
from datk.evaluate import benchmarks
from datk.evaluate.benchmarks.base import Benchmark
from datk.evaluate.benchmarks.controls import lower_is_nearer, self_test
from datk.evaluate.benchmarks.dense import DenseBenchmark
from datk.evaluate.benchmarks.pairs import (
    BenchResult,
    ImageScore,
    PairImage,
    PairSet,
    content_key,
    result_from,
    score_image,
    score_pairs,
)
from datk.evaluate.benchmarks.source import Identity


class BenchTask(Protocol):
    """What the judge needs of a loaded benchmark: DenseSet has it, PairTask gives it to a PairSet."""

    @property
    def name(self) -> str: ...

    @property
    def keys(self) -> tuple[str, ...]:
        """One name an image, in order."""
        ...

    def content(self, index: int) -> str | None:
        """Digest of everything the score depends on beside the model; None: not to be cached."""
        ...

    def score(self, runner: Runner, index: int) -> Any:
        """A small pydantic record."""
        ...

    def parse(self, value: object) -> Any:
        """That record from JSON."""
        ...

    def result(self, who: Identity, images: Sequence[Any]) -> Any:
        """The sum of all records, in the order of keys."""
        ...


@dataclass(frozen=True, kw_only=True)
class TaskRequest:
    """How a benchmark was asked for. Small and picklable: worker processes load it again from this."""

    bench: str
    data: Path | None = None
    listing: Path | None = None
    masks: Path | None = None


class PairTask:
    """Pair sets flattened: the benchmark's own images, then those of its extra sets."""

    def __init__(self, bench: Benchmark, pairs: PairSet) -> None:
        self._bench, self._sets = bench, (pairs, *pairs.extra_sets.values())
        self._flat: list[tuple[PairSet, PairImage]] = [(s, i) for s in self._sets for i in s.images]

    @property
    def name(self) -> str:
        return self._sets[0].name

    @property
    def pairs(self) -> PairSet:
        """The benchmark's own pairs, with their extra sets."""
        return self._sets[0]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(image.path for _, image in self._flat)

    def content(self, index: int) -> str | None:
        return content_key(*self._flat[index])

    def score(self, runner: Runner, index: int) -> ImageScore:
        return score_image(runner, *self._flat[index])

    def parse(self, value: object) -> ImageScore:
        return ImageScore.model_validate(value)

    def result(self, who: Identity, images: Sequence[ImageScore]) -> BenchResult:
        """Also runs the scorer's controls and, where the benchmark asks for it, the row rule."""
        results, at = [], 0
        for pairs in self._sets:
            part = images[at : at + len(pairs.images)]
            results.append(result_from(who, pairs, dict(zip((i.path for i in pairs.images), part, strict=True))))
            at += len(pairs.images)
        main = self._sets[0]
        companions = {s.name: r for s, r in zip(self._sets[1:], results[1:], strict=True)}
        if self._bench.row_rule:
            rule = lower_is_nearer()
            companions |= {f"{rule.name}: {s.name}": score_pairs(rule, s) for s in self._sets}
        plain = replace(main, extra_sets={})
        return results[0].model_copy(update={"companions": companions, "controls": self_test(plain)})


def open_task(request: TaskRequest) -> BenchTask:
    """Load a benchmark. Raises UsageError, DataError or EnvironmentLacks as its loader does."""
    bench = benchmarks.get(request.bench)
    if isinstance(bench, DenseBenchmark):
        return bench.load(request.data, listing=request.listing, masks=request.masks)
    for word, value in (("--list", request.listing), ("--masks", request.masks)):
        if value is not None:
            raise UsageError(f"{word} is for benchmarks with measured depth; {bench.name} is none")
    if isinstance(bench, Benchmark):
        return PairTask(bench, bench.load(request.data))
    return bench.load(request.data)
