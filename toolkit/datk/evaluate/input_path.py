"""Does an artifact read its input as the contract says? Mistakes are told by what the float net makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import IMAGENET_MEAN, IMAGENET_STD
from datk.evaluate.metrics import correlation

Check = dict[str, Any]
PHOTOS = 3
CLEAR = 0.999
"""From here on the artifact follows the float net so closely that no mistake is left to explain anything."""
SURE = 0.9
BETTER = 0.5
"""A mistake is named when the float net fed that way leaves less than half of 1 - r unexplained. On photographs swapped
colours move a good net to r 0.95 to 0.99 only: a threshold on r itself would let them pass as quantisation noise."""

_MEAN = 255 * np.array(IMAGENET_MEAN, np.float32)
_STD = 255 * np.array(IMAGENET_STD, np.float32)
MISTAKES: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "wrong colour order: red and blue are swapped": lambda x: x[..., ::-1],
    "double normalisation: the image is normalised, or scaled to 0..1, twice": lambda x: (x - _MEAN) / _STD,
    "no normalisation: the net sees raw values of 0..255": lambda x: x * _STD + _MEAN,
    "upside down": lambda x: x[::-1],
    "mirrored": lambda x: x[:, ::-1],
}


def check_input_path(
    artifact: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    net: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    photos: Sequence[NDArray[np.uint8]],
) -> Check:
    """The check `input-path`.

    artifact: (h, w, 3) uint8 RGB -> (h, w) depth, as Runner.predict. net: the float deployment net on (h, w, 3) float32
    in 0..255 -> (h, w). photos: uint8 RGB of the bucket; the first few are used. Failed: another way of feeding the
    float net explains the artifact's answers better than the right one, and it is named. An artifact that no way
    explains passes here; parity judges it.
    """
    if not photos:
        return {"status": "not_measured", "detail": "no reference photographs were given"}
    used = list(photos[:PHOTOS])
    answers = [artifact(photo) for photo in used]
    right = _median_r(net, used, answers, lambda x: x)
    if right >= CLEAR:
        return {
            "status": "passed",
            "detail": f"fed as the contract says it follows the float net, r {right:.4f} on {len(used)} photographs",
            "r": round(right, 6),
        }
    first = _median_r(net, used[:1], answers[:1], lambda x: x)
    # Whoever feeds it wrongly does so on every photograph: what does not explain the first explains none.
    likely = {n: c for n, c in MISTAKES.items() if _median_r(net, used[:1], answers[:1], c) > first}
    found = {name: _median_r(net, used, answers, change) for name, change in likely.items()}
    best = max(found, key=lambda name: found[name], default="")
    if best and found[best] >= SURE and 1 - found[best] < BETTER * (1 - right):
        return {
            "status": "failed",
            "detail": f"{best} (r {found[best]:.4f} that way, {right:.4f} fed as the contract says)",
            "r": round(right, 6),
        }
    return {
        "status": "passed",
        "detail": f"r {right:.4f} with the float net, and no other colour order, scaling or direction explains it",
        "r": round(right, 6),
    }


def _median_r(
    net: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    photos: Sequence[NDArray[np.uint8]],
    answers: Sequence[NDArray[np.float32]],
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> float:
    """Median correlation of the answers with the net fed `change(photo)`; where either is constant it counts as 0."""
    found = [
        correlation(net(np.ascontiguousarray(change(photo.astype(np.float32)), np.float32)), answer)
        for photo, answer in zip(photos, answers, strict=True)
    ]
    return float(np.median(np.nan_to_num(found)))
