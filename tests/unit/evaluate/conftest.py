"""Toy runners and a toy DA-2K."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from datk.depth.io_spec import DepthKind, Size
from datk.depth.runner import check_bucket_image

Field = Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]


class ToyRunner:
    """A function of the bucket image, dressed as a runner."""

    label = "toy"

    def __init__(
        self,
        field: Field,
        *,
        input_size: Size = (28, 42),
        kind: DepthKind = DepthKind.DISPARITY_AFFINE_INVARIANT,
        name: str = "toy net",
    ) -> None:
        self.name = name
        self.input_size = input_size
        self.depth_kind = kind
        self._field = field

    def predict(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        check_bucket_image(image, self.input_size)
        return np.asarray(self._field(image), np.float32)

    def close(self) -> None:
        """Holds nothing."""


def red(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    return image[..., 0].astype(np.float64)


@pytest.fixture
def da2k(tmp_path: Path) -> Path:
    """Two scenes in the real layout, 60x80 pictures whose red rises to the right: right is nearer."""
    root = tmp_path / "DA-2K"
    annotations: dict[str, list[dict[str, Any]]] = {}
    for scene, names in {"indoor": ["a.jpg", "b.jpeg"], "aerial": ["c.jpg"]}.items():
        for name in names:
            path = root / "images" / scene / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = np.zeros((60, 80, 3), np.uint8)
            picture[..., 2] = np.linspace(0, 250, 80).astype(np.uint8)  # BGR: red
            cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 100])
            annotations[f"images/{scene}/{name}"] = [
                {"point1": [10, 70], "point2": [50, 5], "closer_point": "point1"},
                {"point1": [55, 60], "point2": [5, 20], "closer_point": "point1"},
            ]
    (root / "annotations.json").write_text(json.dumps(annotations), encoding="utf-8")
    return root


def edit(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite the annotations after `change` has altered them in place."""
    path = root / "annotations.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
