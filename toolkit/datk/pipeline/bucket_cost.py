"""What a fixed input size costs: the float net at the bucket against the float net at each photograph's own aspect."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from datk.artifact.manifest import Metric
from datk.depth.buckets import choose_bucket, native_size
from datk.depth.io_spec import Size
from datk.depth.preprocess import read_image
from datk.depth.runner import Runner, predict_photo
from datk.evaluate.metrics import correlation

PHOTOS = 12
"""Photographs it is measured on: each needs a pass of the float net at a size of its own."""


@cache
def bucket_cost(checkpoint: Path, digest: str, size: Size, photos: tuple[Path, ...]) -> dict[str, Metric]:
    """Correlation of the two maps at the photograph's own size (median and worst), and the median stretch.

    Both nets are float32, 8-bit input, about equally many pixels: what differs is the aspect alone. `digest` of the
    weights keys the memory: one pass serves every artifact of a bucket.
    """
    from datk.evaluate.torch_runner import TorchRunner
    from datk.pipeline.reference import float_net
    from datk.pipeline.steps import weights

    net = weights.read(checkpoint).net
    bucket = float_net(checkpoint, digest, size, "float student")
    return measure_cost(bucket, lambda own: TorchRunner(net, own, name="own aspect"), photos)


def measure_cost(bucket: Runner, at_size: Callable[[Size], Runner], photos: tuple[Path, ...]) -> dict[str, Metric]:
    """As bucket_cost, of any runner. at_size: the same net at another (height, width)."""
    found: list[float] = []
    stretches: list[float] = []
    for path in photos[:PHOTOS]:
        photo = read_image(path)
        shape = (photo.shape[0], photo.shape[1])
        own = at_size(native_size(shape, bucket.input_size[0] * bucket.input_size[1]))
        found.append(correlation(predict_photo(bucket, photo), predict_photo(own, photo)))
        stretches.append(choose_bucket(shape, [bucket.input_size]).stretch)
    defined = [r for r in found if math.isfinite(r)]
    none = None if defined else "the net's maps are constant or not finite on every photograph"
    median, worst = (float(np.median(defined)), min(defined)) if defined else (None, None)

    def correlation_metric(value: float | None) -> Metric:
        return Metric(value=value, unit="1", n=len(defined), higher_is_better=True, not_measured=none)

    return {
        "bucket_vs_own_aspect_median": correlation_metric(median),
        "bucket_vs_own_aspect_worst": correlation_metric(worst),
        "bucket_stretch_median": Metric(
            value=float(np.median(stretches)), unit="1", n=len(stretches), higher_is_better=False
        ),
    }
