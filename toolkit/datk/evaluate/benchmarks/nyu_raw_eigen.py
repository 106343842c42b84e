"""`nyu_raw_eigen`: zero-shot relative depth on NYU Depth v2, 654 test pictures, raw sensor depth, Eigen's crop, 10 m.

rawDepths, not the filled-in field: with that one published figures do not come out (Small AbsRel .062 instead of .053).
"""

from __future__ import annotations

from datk.evaluate.benchmarks.dense import DenseBenchmark
from datk.evaluate.benchmarks.protocol import DenseProtocol

BENCHMARK = DenseBenchmark(
    name="nyu_raw_eigen",
    title="NYU Depth v2 test, raw depth, Eigen crop, cap 10 m",
    adapter="nyuv2",
    split="test",
    protocol=DenseProtocol(cap_m=10.0, crop="eigen_nyu", images="NYU Depth v2 test, rawDepths", expected=654),
    notes=("unpacked PNGs do not say whether they hold raw or filled-in depth; the .mat file does, and raw is read",),
)
