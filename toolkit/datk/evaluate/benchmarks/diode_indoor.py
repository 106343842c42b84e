"""`diode_indoor`: the 325 indoor pictures of DIODE's validation part, cap 80 m.

Published DIODE figures are most likely of these alone: with the outdoor half errors are three times as large.
"""

from __future__ import annotations

from datk.evaluate.benchmarks.dense import DenseBenchmark
from datk.evaluate.benchmarks.protocol import DenseProtocol

BENCHMARK = DenseBenchmark(
    name="diode_indoor",
    title="DIODE val, indoor only, cap 80 m",
    adapter="diode",
    split="val/indoors",
    protocol=DenseProtocol(cap_m=80.0, images="DIODE val/indoors, where the mask is 1", expected=325),
)
