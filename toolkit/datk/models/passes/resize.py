"""Bilinear resizing with align_corners=True as two matrix products with constant matrices: Y = R X C^T.

For runtimes whose resize has half-pixel centres only, or none: every one has a matrix product. Row i of R holds the
two weights of output row i, which samples at i (in - 1)/(out - 1). Dense, so it costs more arithmetic than a resize
does: about 4 GFLOP for the last one of ViT-S at 518x518.
"""

from __future__ import annotations

import torch
from torch import Tensor

from datk.depth.io_spec import Size
from datk.errors import UsageError
from datk.models.depth_anything import DepthAnything
from datk.models.dpt import DptHead, FusionBlock, Grid
from datk.models.presets import PATCH


def interpolation_matrix(size_in: int, size_out: int) -> Tensor:
    """(size_out, size_in) float32: each row the weights of one output sample, summing to 1."""
    at = torch.arange(size_out, dtype=torch.float64) * ((size_in - 1) / max(size_out - 1, 1))
    low = at.floor().clamp(max=max(size_in - 2, 0)).long()
    share = at - low
    matrix = torch.zeros(size_out, size_in, dtype=torch.float64)
    rows = torch.arange(size_out)
    matrix[rows, low] = 1 - share
    if size_in > 1:
        matrix[rows, low + 1] += share
    return matrix.float()


class MatmulFusionBlock(FusionBlock):
    """A fusion block that upsamples by its own two constant matrices."""

    rows: Tensor
    columns: Tensor

    def upsample(self, x: Tensor, size: Grid) -> Tensor:
        return torch.matmul(torch.matmul(self.rows, x), self.columns)


class MatmulDptHead(DptHead):
    """The head whose last upsampling is a product with two constant matrices."""

    rows: Tensor
    columns: Tensor

    def upsample(self, x: Tensor, size: Grid) -> Tensor:
        return torch.matmul(torch.matmul(self.rows, x), self.columns)


def resize_by_matmul(net: DepthAnything, input_size: Size) -> int:
    """Lower the five upsamplings of the DPT head for input_size (height, width), in place; returns 5.

    Raises UsageError for another head.
    """
    if not isinstance(net.depth_head, DptHead):
        raise UsageError(f"resize-by-matmul is written for the DPT head, not for {net.preset.name}")
    h, w = input_size[0] // PATCH, input_size[1] // PATCH
    head, scratch = net.depth_head, net.depth_head.scratch
    steps = (
        (scratch.refinenet4, ((h + 1) // 2, (w + 1) // 2), (h, w)),
        (scratch.refinenet3, (h, w), (2 * h, 2 * w)),
        (scratch.refinenet2, (2 * h, 2 * w), (4 * h, 4 * w)),
        (scratch.refinenet1, (4 * h, 4 * w), (8 * h, 8 * w)),
        (head, (8 * h, 8 * w), (PATCH * h, PATCH * w)),
    )
    for module, old, new in steps:
        module.__class__ = MatmulDptHead if module is head else MatmulFusionBlock
        module.register_buffer("rows", interpolation_matrix(old[0], new[0]), persistent=False)
        module.register_buffer("columns", interpolation_matrix(old[1], new[1]).T.contiguous(), persistent=False)
    return len(steps)
