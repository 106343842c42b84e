"""Where a dense prediction is wrong: the aligned depth and its relative error, pixel by pixel, as it was scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datk.data.sample import Sample
from datk.depth.io_spec import DepthKind
from datk.evaluate.benchmarks.dense import aligned_depth, aligned_score, truth_of
from datk.evaluate.benchmarks.protocol import DenseProtocol
from datk.evaluate.metrics import MIN_PIXELS


@dataclass(frozen=True, kw_only=True)
class DenseError:
    """All (H, W) float64, in the truth's own unit."""

    truth: NDArray[np.float64]
    """nan where the protocol does not score."""
    depth: NDArray[np.float64]
    """The prediction aligned and clamped as it was for the first variant."""
    relative: NDArray[np.float64]
    """|depth - truth| / truth; nan where the protocol does not score. Its mean is that image's abs_rel."""


def dense_error(
    pred: NDArray[np.floating], kind: DepthKind, sample: Sample, protocol: DenseProtocol
) -> DenseError | None:
    """One (H, W) map against a sample; None where too few pixels are known or nothing can be fitted."""
    truth, _ = truth_of(sample)
    truth = protocol.clipped(truth)
    valid = protocol.mask(truth)
    if valid.sum() < MIN_PIXELS:
        return None
    fit = aligned_score(pred, kind, truth, valid, protocol.cap_m)
    if fit.undefined:
        return None
    far = protocol.cap_m if protocol.cap_m is not None else float(truth[valid].max())
    depth = aligned_depth(pred, kind, fit, far)
    shown = np.where(valid, truth, np.nan)
    return DenseError(truth=shown, depth=depth, relative=np.abs(depth - shown) / shown)
