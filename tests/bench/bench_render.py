"""Images a second of both renderers, and their ratio, one process each, interleaved over the same scenes."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from datk.data.synthetic import build_scene, open_renderer
from datk.data.synthetic.renderer import RENDERERS, why_not

SIZE = (126, 168)
SCENES = 12


def run() -> list[dict[str, Any]]:
    """One row a renderer (scene building and picture together); ratio is to the ray caster."""
    missing = {name: why_not(name) for name in RENDERERS}
    devices = {name: open_renderer(name) for name, reason in missing.items() if reason is None}
    for device in devices.values():
        device.render(build_scene(0, 0), SIZE)
    times: dict[str, list[float]] = {name: [] for name in devices}
    for index in range(1, SCENES + 1):
        for name, device in devices.items():
            start = time.perf_counter()
            device.render(build_scene(0, index), SIZE)
            times[name].append(time.perf_counter() - start)
    for device in devices.values():
        device.close()
    speed = {name: 1 / median(values) for name, values in times.items()}
    base = speed.get("embreex")
    return [
        {
            "name": f"render {SIZE[0]}x{SIZE[1]} by {name}",
            "value": speed.get(name),
            "unit": "img/s" if name in speed else f"not measured: {missing[name]}",
            "n": SCENES if name in speed else 0,
            "reference": "embreex",
            "ratio": speed[name] / base if name in speed and base else None,
        }
        for name in RENDERERS
    ]


if __name__ == "__main__":
    for row in run():
        print(row)
