"""The paper's central claim on a CPU: does a student of pseudo-labelled real photographs beat the same student of the
synthetic images its teacher learned from?

Both recipes are trained with each seed (of the student alone: scenes, teacher and labels are shared) and judged on four
real scenes with measured depth, on pairs of points at about the same row. Printed is the difference by scene, first arm
minus second, with a 95 % interval over the seeds (Student's t). Finished runs are kept: the command goes on.

python docs/experiments/central_claim.py --seeds 3
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from datk.artifact.files import write_json
from datk.artifact.provenance import git_state
from datk.config.load import find_recipe, load_recipe
from datk.config.schema import Recipe
from datk.evaluate import benchmarks
from datk.pipeline.execute import Selection
from datk.pipeline.models import open_model
from datk.pipeline.run import run

ARMS = ("claim_pseudo_labels", "claim_synthetic_only")
POOLED = "all four"
Accuracies = dict[str, float]
"""Scene -> share of its pairs ordered rightly, 0..1."""


class Said:
    """A Reporter that says on stderr which stage runs."""

    def stage(self, name: str, title: str, state: str) -> None:
        print(f"  {name}: {state}", file=sys.stderr)

    def progress(self, done: int, total: int, what: str = "") -> None: ...

    def note(self, text: str) -> None: ...


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The recipe under a name of its own, whose student alone has another seed."""
    assert recipe.student is not None
    student = recipe.student.model_copy(update={"seed": seed})
    return recipe.model_copy(update={"name": f"{recipe.name}-{seed}", "student": student})


def accuracies(checkpoint: Path) -> Accuracies:
    """real4's same-row pairs by scene, and pooled."""
    benchmark = benchmarks.get("real4")
    runner = open_model(checkpoint)
    try:
        result = benchmark.score(runner, benchmark.load(None))
    finally:
        runner.close()
    return {name: score.accuracy for name, score in result.scenes.items()} | {POOLED: result.overall.accuracy}


def compare(first: Sequence[Accuracies], second: Sequence[Accuracies]) -> dict[str, dict[str, float]]:
    """Scene -> means of both arms, mean difference first - second and half its 95 % interval over seeds, all in points.

    first, second: one entry a seed, in the same order; at least two seeds.
    """
    out = {}
    for scene in first[0]:
        one, other = (100 * np.array([seed[scene] for seed in arm]) for arm in (first, second))
        difference = one - other
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        out[scene] = {
            "first": float(one.mean()),
            "second": float(other.mean()),
            "difference": float(difference.mean()),
            "half_interval": float(stats.t.ppf(0.975, len(difference) - 1) * error),
        }
    return out


def table(found: dict[str, dict[str, float]], arms: Sequence[str], seeds: int) -> str:
    """Markdown; what the interval leaves zero out of is bold."""
    lines = [f"| scene | {arms[0]}, % | {arms[1]}, % | difference, points ({seeds} seeds) |", "|---|---|---|---|"]
    for scene, row in found.items():
        words = f"{row['difference']:+.1f} ± {row['half_interval']:.1f}"
        if abs(row["difference"]) > row["half_interval"]:
            words = f"**{words}**"
        lines.append(f"| {scene} | {row['first']:.1f} | {row['second']:.1f} | {words} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs=2, default=ARMS, metavar="RECIPE")
    parser.add_argument("--seeds", type=int, default=3, help="at least 2; 3 for anything to be said")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="named `runs`, stages are shared between runs")
    chosen = parser.parse_args(arguments)
    if chosen.seeds < 2:
        parser.error("--seeds: an interval needs at least 2")
    scores: dict[str, list[Accuracies]] = {arm: [] for arm in chosen.arms}
    for seed in range(1, chosen.seeds + 1):
        for arm in chosen.arms:
            recipe = with_seed(load_recipe(find_recipe(arm)), seed)
            print(recipe.name, file=sys.stderr)
            folder = chosen.out / recipe.name
            run(recipe, folder, Selection(until="student"), reporter=Said())
            scores[arm].append(accuracies(folder / "30-student" / "student.safetensors"))
    first, second = (scores[arm] for arm in chosen.arms)
    found = compare(first, second)
    git = git_state(Path(__file__).parent)
    write_json(chosen.out / "central_claim.json", {"scores": scores, "comparison": found, "git": git})
    print(table(found, [Path(arm).stem for arm in chosen.arms], chosen.seeds))
    print(json.dumps({"seeds": chosen.seeds, "git": git}), file=sys.stderr)
    return found


if __name__ == "__main__":
    main()
