"""`kitti_garg`: zero-shot relative depth on KITTI, 652 Eigen frames with improved ground truth, Garg's crop, 80 m.

Table 2 of Depth Anything V2 is reproduced elsewhere with this protocol (Small AbsRel .077 against .078).
"""

from __future__ import annotations

from datk.evaluate.benchmarks.dense import DenseBenchmark
from datk.evaluate.benchmarks.protocol import DenseProtocol

BENCHMARK = DenseBenchmark(
    name="kitti_garg",
    title="KITTI, Eigen frames, Garg crop, cap 80 m",
    adapter="kitti",
    protocol=DenseProtocol(
        cap_m=80.0, crop="garg", images="KITTI Eigen frames with improved ground truth, left camera", expected=652
    ),
    listing_wanted="the 652 Eigen frames that have improved ground truth, one image path a line",
)
