"""The built-in bench in DA-2K's shape: rendered scenes with exact depth, and four real scenes with measured depth.

It finds out whether an export or a quantisation broke the net; it does not rank nets. How it was made:
mini_data/README.md.
"""

from __future__ import annotations

from pathlib import Path

from datk.evaluate.benchmarks.base import Benchmark
from datk.evaluate.benchmarks.pair_file import load_pairs
from datk.evaluate.benchmarks.pairs import PairSet

FOLDER = Path(__file__).parent / "mini_data"


def load(data_dir: Path | None = None) -> PairSet:
    """The shipped pairs, or another folder of the same layout. Raises DataError when it does not fit."""
    return load_pairs(data_dir or FOLDER, name=BENCHMARK.name)


BENCHMARK = Benchmark(name="mini", title="built-in pairs: rendered scenes and four real ones", load=load)
