"""The engine's ONNX twin, run by ONNX Runtime where the engine itself cannot be: the same graph, another runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import Contract
from datk.targets.jetson.half_range import PHOTOS_NEEDED
from datk.targets.onnx.runner import open_artifact

if TYPE_CHECKING:
    from torch import nn

LEAST = {"fp32": (0.9999, 0.0), "fp16": (0.999, 0.0), "int8": (0.98, 0.95)}
"""(least median, least worst correlation): the gates of datk.evaluate.gates, which this room cannot import."""


def check_twin(
    source: Path, contract: Contract, float_module: nn.Module | None, photos: Sequence[NDArray[np.uint8]]
) -> dict[str, Any]:
    """A check record: does the graph that the engine was built from follow the float net?

    source: model.onnx. float_module: (1, h, w, 3) uint8 -> (1, h, w). photos: bucket images (h, w, 3) uint8 RGB. Too
    few of them prove nothing, but a graph that is wrong on them fails. A map that is constant or not finite counts 0.
    """
    import torch

    if float_module is None or not photos:
        return {"status": "not_measured", "detail": "no float net or no photographs to compare with"}
    runner = open_artifact(source, contract)
    try:
        with torch.no_grad():
            found = [
                _correlation(runner.predict(photo), float_module(torch.from_numpy(photo[None])).numpy()[0])
                for photo in photos
            ]
    finally:
        runner.close()
    median, worst = float(np.median(found)), float(min(found))
    least_median, least_worst = LEAST[contract.precision]
    good, enough = median >= least_median and worst >= least_worst, len(found) >= PHOTOS_NEEDED
    few = "" if enough else f"; at least {PHOTOS_NEEDED} photographs are needed"
    detail = (
        f"{source.name}, the graph the engine was built from, by {runner.label}: correlation with the float net "
        f"{median:.6f} (median, needed {least_median}) and {worst:.6f} (worst, needed {least_worst}) over {len(found)} "
        f"photographs{few}; not the engine"
    )
    return {
        "status": ("passed" if enough else "not_measured") if good else "failed",
        "detail": detail,
        "judged_by": runner.label,
        "median_correlation": median,
        "worst_correlation": worst,
        "n_photos": len(found),
    }


def _correlation(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    if not np.isfinite(found).all() or found.std() == 0 or expected.std() == 0:
        return 0.0
    return float(np.corrcoef(found.ravel().astype(np.float64), expected.ravel().astype(np.float64))[0, 1])
