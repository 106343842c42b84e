"""Candidate points by SAM: the grid points whose automatic masks survive, not the masks (paper, section 6.2)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datk.bench_builder.keypoints import Points
from datk.depth.io_spec import IMAGENET_MEAN, IMAGENET_STD
from datk.depth.runner import ImageU8
from datk.errors import CheckpointError, EnvironmentLacks

if TYPE_CHECKING:
    from torch import Tensor

GRID = 32
PREDICTED_IOU, STABILITY, STABILITY_OFFSET, BOX_NMS = 0.88, 0.95, 1.0, 0.7
"""The automatic mask generator's own defaults (Kirillov et al. 2023, appendix B; one crop, no box at an inner edge)."""


class SamPoints:
    """SAM in transformers' layout: a folder with config.json and model.safetensors, read from disk only.

    Each point of a GRID x GRID grid prompts three masks; a mask lives when its predicted IoU and its stability reach
    the thresholds and no better mask's box covers it; a point lives when one of its masks does.
    Raises EnvironmentLacks without transformers, CheckpointError when the folder holds no SAM.
    """

    def __init__(
        self,
        folder: Path,
        *,
        grid: int = GRID,
        predicted_iou: float = PREDICTED_IOU,
        stability: float = STABILITY,
        points_per_batch: int = 64,
    ) -> None:
        if importlib.util.find_spec("transformers") is None:
            raise EnvironmentLacks(
                "key points by SAM need transformers, not installed here",
                hint='pip install "datk[experts]", or take superpixels: leave --sam out',
            )
        self._net = _load(folder)
        self._side: int = self._net.config.vision_config.image_size
        self._grid, self._iou, self._stability, self._batch = grid, predicted_iou, stability, points_per_batch
        self.key = f"sam-{folder.name}-{grid}-{predicted_iou}-{stability}"

    def find(self, photo: ImageU8) -> Points:
        """(H, W, 3) uint8 RGB -> (N, 2): the grid points that prompt out a mask; possibly none."""
        import torch

        points = grid_points(self._grid, (photo.shape[0], photo.shape[1]))  # (G*G, 2) rows, columns
        pixels, inner = sam_input(photo, self._side)
        scale = np.array(inner) / np.array(photo.shape[:2])
        found: list[tuple[int, float, NDArray[np.float64]]] = []
        with torch.inference_mode():
            embedding = self._net.get_image_embeddings(torch.from_numpy(pixels))
            for start in range(0, len(points), self._batch):
                prompts = (points[start : start + self._batch] + 0.5) * scale  # (b, 2)
                xy = torch.from_numpy(prompts[:, ::-1].astype(np.float32).copy())[None, :, None]  # (1, b, 1, 2)
                out = self._net(image_embeddings=embedding, input_points=xy, multimask_output=True)
                found += self._living(out.pred_masks[0], out.iou_scores[0], start, inner)
        kept = non_maximum_suppression([b for *_, b in found], [s for _, s, _ in found])
        indices = sorted({found[k][0] for k in kept})
        return np.unique(points[indices].astype(np.int32).reshape(-1, 2), axis=0)

    def _living(
        self, logits: Tensor, ious: Tensor, start: int, inner: tuple[int, int]
    ) -> list[tuple[int, float, NDArray[np.float64]]]:
        """(b, 3, m, m) logits, (b, 3) predicted IoU -> (grid point's index, score, box) of each mask that lives."""
        side = logits.shape[-1]
        h, w = (max(1, round(side * s / self._side)) for s in inner)  # the picture without its padding
        masks = logits[..., :h, :w]
        high = (masks > STABILITY_OFFSET).sum((-1, -2)).double()
        low = (masks > -STABILITY_OFFSET).sum((-1, -2)).double()
        lives = (ious >= self._iou) & (high >= self._stability * low) & (high > 0)
        out = []
        for point, mask in lives.nonzero().tolist():
            rows, columns = (masks[point, mask] > 0).nonzero(as_tuple=True)
            box = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
            out.append((start + point, float(ious[point, mask]), np.array([float(v) for v in box])))
        return out


def grid_points(per_side: int, size: tuple[int, int]) -> NDArray[np.int64]:
    """(per_side ** 2, 2) rows and columns at the middles of equal cells of a picture of (height, width) `size`."""
    middles = (np.arange(per_side) + 0.5) / per_side
    rows, columns = np.meshgrid(middles * size[0], middles * size[1], indexing="ij")
    return np.stack([rows.ravel(), columns.ravel()], axis=1).astype(np.int64)


def sam_input(photo: ImageU8, side: int) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """(H, W, 3) uint8 RGB -> ((1, 3, side, side) float32, (h, w) of the picture inside).

    The long side becomes `side`, the rest is zero. SAM's own preprocessing: bilinear resize, ImageNet statistics,
    padding right and below after normalising.
    """
    scale = side / max(photo.shape[:2])
    h, w = (int(s * scale + 0.5) for s in photo.shape[:2])
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR  # a bilinear filter with antialiasing
    small = cv2.resize(photo, (w, h), interpolation=interpolation)
    normal = (small / 255.0 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    out = np.zeros((1, 3, side, side), np.float32)
    out[0, :, :h, :w] = normal.transpose(2, 0, 1)
    return out, (h, w)


def non_maximum_suppression(boxes: list[NDArray[np.float64]], scores: list[float]) -> list[int]:
    """Indices of the boxes (top, left, bottom, right) that no better-scored kept box overlaps with IoU > 0.7."""
    kept: list[int] = []
    for k in sorted(range(len(boxes)), key=lambda k: -scores[k]):
        if all(_iou(boxes[k], boxes[other]) <= BOX_NMS for other in kept):
            kept.append(k)
    return kept


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    overlap = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = float(overlap.clip(0).prod())
    return both / float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both)


def _load(folder: Path) -> Any:
    from safetensors import SafetensorError
    from transformers import SamConfig, SamModel

    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder}: no {name}", hint="name a folder with SAM in transformers' layout, for example sam-vit-base"
            )
    try:
        config = SamConfig.from_pretrained(folder, local_files_only=True)
        if config.model_type != "sam":
            raise CheckpointError(f"{folder}: its config.json describes '{config.model_type}', expected 'sam'")
        net, told = SamModel.from_pretrained(
            folder, config=config, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: not a readable SAM ({error})") from error
    if lacking := [*told["missing_keys"], *told["mismatched_keys"]]:
        raise CheckpointError(f"{folder}: weights lack {len(lacking)} tensors, first {sorted(map(str, lacking))[0]}")
    return net.eval()
