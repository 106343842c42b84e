"""Draw the contact sheet of synthetic scenes: 48 pairs of picture and disparity.

python docs/make_contact_sheet.py [--seed 0] [--out docs/images/synthetic_contact_sheet.jpg]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import matplotlib
import numpy as np

from datk.data.synthetic import build_scene, open_renderer
from datk.data.synthetic.layouts import LAYOUTS

PAIRS, COLUMNS, SIZE = 48, 8, (126, 168)


def disparity_colours(depth_m: np.ndarray) -> np.ndarray:
    """(H, W) metres, inf = sky -> (H, W, 3) uint8, red near, blue far."""
    disparity = np.where(np.isfinite(depth_m), 1 / depth_m, 0.0)
    low, high = np.quantile(disparity, [0.01, 0.99])
    scaled = np.clip((disparity - low) / max(high - low, 1e-9), 0, 1)
    return (matplotlib.colormaps["Spectral_r"](scaled)[..., :3] * 255).astype(np.uint8)


def main() -> None:
    """Every layout in turn, scene index = place on the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--renderer", default="auto")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images" / "synthetic_contact_sheet.jpg")
    arguments = parser.parse_args()
    renderer = open_renderer(arguments.renderer)
    kinds = list(LAYOUTS)
    tiles = []
    for index in range(PAIRS):
        rendered = renderer.render(build_scene(arguments.seed, index, kind=kinds[index % len(kinds)]), SIZE)
        tiles.append(np.concatenate([rendered.image, disparity_colours(rendered.depth_m)], axis=0))
    rows = [np.concatenate(tiles[i : i + COLUMNS], axis=1) for i in range(0, PAIRS, COLUMNS)]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(arguments.out), np.concatenate(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(f"{arguments.out}: {PAIRS} pairs by {renderer.detail}")


if __name__ == "__main__":
    main()
