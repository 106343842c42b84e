"""Did calibration see photographs as the net is fed them? Told from colours, without trusting who calibrated.

Two mistakes leave a working int8 file with wrong ranges: images read as BGR, and images normalised before the net
normalises them. The program carries the colours of what it was calibrated on; reference photographs, read by datk
itself, say what photographs look like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.quantize.calibration import colour_map

Check = dict[str, Any]
ENOUGH_EVIDENCE = 4.0
"""Natural logarithm of the odds between RGB and BGR, from which a side is taken: 1 in 55."""
LEAST_CONTRAST = 0.35
"""Of the reference photographs' contrast: real sets differ by tens of per cent, normalised images by 100 times."""
FEWEST = 4


def check_calibration_input(
    record: Sequence[Mapping[str, Any]], photos: Sequence[NDArray[np.uint8]], *, names: str = "reference photographs"
) -> Check:
    """The check `calibration-input`: a program's record against photographs in known order.

    record: datk.quantize.calibration.record_of, as the program keeps it. photos: (h, w, 3) uint8 RGB. Colour order is
    told by a likelihood ratio over red minus blue of each image, upper and lower half, whose distribution the
    photographs give: blue is above, in the sky, and red is below and inside. Failed: normalised before, or red and
    blue swapped. not_measured: too few images, or too grey to tell.
    """
    if len(record) < FEWEST or len(photos) < FEWEST:
        return {
            "status": "not_measured",
            "detail": f"{len(record)} calibration images and {len(photos)} {names}, {FEWEST} of each are needed",
        }
    contrast = float(np.median([r["std"] for r in record]) / np.median([float(p.std()) for p in photos]))
    figures: dict[str, Any] = {"contrast_ratio": round(contrast, 4), "n": len(record)}
    if contrast < LEAST_CONTRAST:
        return {
            "status": "failed",
            "detail": f"the calibration images have {100 * contrast:.1f} % of the contrast of the {names}: they were "
            "normalised or scaled before (double normalisation); give RGB in 0..255, normalisation is inside the net",
        } | figures
    given = _colour_features(np.array([r["colours"] for r in record], np.float64))
    reference = _colour_features(np.array([colour_map(p) for p in photos], np.float64))
    odds, plain, swapped = _log_odds(given, reference)
    figures |= {"log_odds_rgb": round(odds, 2), "distance_rgb": round(plain, 2), "distance_bgr": round(swapped, 2)}
    if odds < -ENOUGH_EVIDENCE and swapped < plain:
        return {
            "status": "failed",
            "detail": f"the calibration images look like the {names} with red and blue swapped (wrong colour order, "
            f"odds e^{-odds:.0f} to 1): read them as RGB; if they are that blue in truth, name photographs of their "
            "kind with --images",
        } | figures
    if odds < ENOUGH_EVIDENCE:
        return {
            "status": "not_measured",
            "detail": f"{len(record)} images are too few, or too grey, to tell RGB from BGR (log odds {odds:+.1f})",
        } | figures
    return {
        "status": "passed",
        "detail": f"{len(record)} calibration images have the contrast and the colours of the {names} "
        f"(RGB rather than BGR by odds of e^{odds:.0f} to 1)",
    } | figures


def _colour_features(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2, 4, 3) colour maps -> (n, 2): red minus blue of the upper and of the lower half, over mean brightness."""
    brightness = np.maximum(colours.mean((1, 2, 3)), 1.0)
    found: NDArray[np.float64] = (colours[..., 0] - colours[..., 2]).mean(2) / brightness[:, None]
    return found


def _log_odds(given: NDArray[np.float64], reference: NDArray[np.float64]) -> tuple[float, float, float]:
    """Log likelihood ratio of RGB against BGR, and how far the set's mean lies from either, in standard errors.

    Features change sign when red and blue are swapped, so both hypotheses share one covariance. Each image counts at
    most 2 either way: one sunset is no proof.
    """
    mean = reference.mean(0)
    spread = np.cov(reference.T) + 1e-6 * np.eye(reference.shape[1])
    weight = np.linalg.solve(spread, mean)
    odds = float(np.clip(2 * given @ weight, -2, 2).sum())
    of_mean = np.linalg.inv(spread * (1 / len(given) + 1 / len(reference)))
    plain, swapped = (given.mean(0) - sign * mean for sign in (1, -1))
    return odds, float(np.sqrt(plain @ of_mean @ plain)), float(np.sqrt(swapped @ of_mean @ swapped))
