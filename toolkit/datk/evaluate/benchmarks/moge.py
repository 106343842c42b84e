"""`moge`: any of MoGe's evaluation folders, by its rule: no crop, no cap, disparity clamped at 1 / farthest truth.

Wang et al. 2025 (MoGe), the affine-invariant disparity metric of its evaluation. MoGe first warps every picture to a
fixed view and size; here the stored pictures are scored as they are, so figures are close to its own, not equal.
"""

from __future__ import annotations

from datk.evaluate.benchmarks.dense import DenseBenchmark
from datk.evaluate.benchmarks.protocol import DenseProtocol

BENCHMARK = DenseBenchmark(
    name="moge",
    title="a folder of MoGe's evaluation, its masks and clamp",
    adapter="moge",
    protocol=DenseProtocol(nearest_m=0.0, drop_beyond_low=1000.0, boundary=True, images="the folder's own list"),
    notes=("pictures are not warped to MoGe's fixed view and size: close to its figures, not equal",),
)
