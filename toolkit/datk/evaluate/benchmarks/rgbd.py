"""`rgbd`: your own photographs with measured depth (`datk data list rgbd`), no crop, no cap."""

from __future__ import annotations

from datk.evaluate.benchmarks.dense import DenseBenchmark
from datk.evaluate.benchmarks.protocol import DenseProtocol

BENCHMARK = DenseBenchmark(
    name="rgbd",
    title="your own images/ and depth/ with rgbd.json",
    adapter="rgbd",
    protocol=DenseProtocol(nearest_m=0.0, images="the folder's own"),
)
