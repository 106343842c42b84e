"""`sintel_near`: as `sintel`, but everything beyond 70 m, sky included, is left out. MoGe's reading of the set."""

from __future__ import annotations

from datk.evaluate.benchmarks.dense import DenseBenchmark
from datk.evaluate.benchmarks.protocol import DenseProtocol

BENCHMARK = DenseBenchmark(
    name="sintel_near",
    title="MPI Sintel, final pass, beyond 70 m left out",
    adapter="sintel",
    protocol=DenseProtocol(cap_m=70.0, boundary=True, images="MPI Sintel training frames, final pass", expected=1064),
)
