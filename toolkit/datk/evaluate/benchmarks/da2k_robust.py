"""`da2k_dark`, `da2k_fog`, `da2k_snow`, `da2k_blur`: DA-2K's pairs on pictures in bad light and weather.

The idea is Depth Anything AC's; the painting is datk's own (evaluate/perturb.py), so its published figures (Small: .910
dark, .922 fog, .880 snow, .862 blur) do not compare. Compare nets with each other, and with their own `da2k`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from datk.evaluate import perturb
from datk.evaluate.benchmarks import da2k
from datk.evaluate.benchmarks.base import Benchmark
from datk.evaluate.benchmarks.pairs import ImageChange, PairSet


def load(name: str, data_dir: Path | None = None) -> PairSet:
    """DA-2K, every picture changed before a net sees it. Raises like da2k.load."""
    variant = name.removeprefix("da2k_")
    pairs = da2k.find(data_dir)
    note = "painted by datk: not comparable with figures published for other paintings of dark, fog, snow or blur"
    change = ImageChange(f"{variant} (datk's painting, version {perturb.VERSION})", perturb.VARIANTS[variant])
    return replace(pairs, name=name, notes=(pairs.notes[0], note), change=change)


BENCHMARKS = tuple(
    Benchmark(name=f"da2k_{v}", title=f"DA-2K with {v} painted on", load=partial(load, f"da2k_{v}"), variant_of="da2k")
    for v in perturb.VARIANTS
)
