"""What a pair benchmark is: where its data comes from, and the one strict way to score it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datk.depth.runner import Runner
from datk.evaluate.benchmarks.controls import lower_is_nearer, self_test
from datk.evaluate.benchmarks.pairs import BenchResult, PairSet, Progress, score_pairs


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A named benchmark. `load` takes the user's data folder or None for the default place."""

    name: str
    title: str
    load: Callable[[Path | None], PairSet]
    variant_of: str = ""
    """The benchmark whose pictures these are, changed."""
    row_rule: bool = False
    """Also score the rule "lower is nearer" beside the net."""

    def score(self, runner: Runner, pairs: PairSet, *, progress: Progress | None = None) -> BenchResult:
        """Run the scorer's controls on this set, then score the runner on it and on its extra sets.

        Companions hold the extra sets by name and, where the benchmark asks for it, the row rule on each set.
        Raises RuntimeError when a control fails, DataError when images cannot be read.
        """
        controls = self_test(pairs)
        main = score_pairs(runner, pairs, progress=progress)
        companions = {name: score_pairs(runner, extra) for name, extra in pairs.extra_sets.items()}
        if self.row_rule:
            rule = lower_is_nearer()
            companions[f"{rule.name}: {pairs.name}"] = score_pairs(rule, pairs)
            companions |= {f"{rule.name}: {name}": score_pairs(rule, e) for name, e in pairs.extra_sets.items()}
        return main.model_copy(update={"companions": companions, "controls": controls})
