"""`eth3d`: 454 DSLR photographs with laser-scan depth of the very same, distorted, pixels; cap 200 m."""

from __future__ import annotations

from datk.evaluate.benchmarks.dense import DenseBenchmark
from datk.evaluate.benchmarks.protocol import DenseProtocol

BENCHMARK = DenseBenchmark(
    name="eth3d",
    title="ETH3D, DSLR training scenes, native pixels, cap 200 m",
    adapter="eth3d",
    protocol=DenseProtocol(cap_m=200.0, images="ETH3D DSLR training photographs, distorted, 4032x6048", expected=454),
    notes=(
        "better than the paper's Table 2 is expected (elsewhere Small AbsRel .101 against .142): there the depth may "
        "have been paired with undistorted photographs",
    ),
)
