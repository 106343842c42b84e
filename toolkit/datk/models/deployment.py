"""The net as compilers get it: one input size, normalisation inside, nothing left to compute on shapes.

Differences from DepthAnything, none of which changes the function, are the passes of datk.models.passes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from datk.depth.io_spec import IMAGENET_MEAN, IMAGENET_STD, Size
from datk.depth.preprocess import check_multiple
from datk.errors import UsageError
from datk.models.depth_anything import DepthAnything
from datk.models.dinov2 import DinoV2
from datk.models.passes.attention import write_out_attention
from datk.models.passes.batch_norm import fold_batch_norm
from datk.models.passes.dead_weights import drop_dead_weights
from datk.models.passes.layer_scale import fold_layer_scale
from datk.models.passes.normalisation import PIXEL_SCALE, PIXEL_SHIFT, fold_normalisation
from datk.models.passes.position import fix_position_embedding
from datk.models.passes.resize import resize_by_matmul
from datk.models.passes.safe_layer_norm import write_out_safe_layer_norms

InputForm = Literal["nhwc_uint8", "nchw_float"]
INPUT_FORMS: tuple[InputForm, ...] = ("nhwc_uint8", "nchw_float")
ExtraPass = Literal["safe-layer-norm", "resize-by-matmul"]
EXTRA_PASSES: tuple[ExtraPass, ...] = ("safe-layer-norm", "resize-by-matmul")
"""Passes that cost something, and so are made only where a target or a recipe asks for them."""


class DeploymentModule(nn.Module):
    """Raw RGB of one bucket -> (1, h, w) float32 depth. Official submodule names stand below `net.`."""

    scale: Tensor
    offset: Tensor

    def __init__(self, net: DepthAnything, input_size: Size, input_form: InputForm, *, folded: bool = False) -> None:
        super().__init__()
        self.input_size = input_size
        self.input_form = input_form
        self.net = net
        self.folded = folded
        """The patch embedding holds the normalisation; what is left is the same for all colours."""
        if not folded:
            mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float64).view(1, 3, 1, 1)
            std = torch.tensor(IMAGENET_STD, dtype=torch.float64).view(1, 3, 1, 1)
            self.register_buffer("scale", (1 / (255 * std)).float())
            self.register_buffer("offset", (-mean / std).float())

    def forward(self, image: Tensor) -> Tensor:
        """image: (1, h, w, 3) uint8 or (1, 3, h, w) float32, RGB in 0..255. Returns (1, h, w) float32."""
        h, w = self.input_size
        expected = (1, h, w, 3) if self.input_form == "nhwc_uint8" else (1, 3, h, w)
        if tuple(image.shape) != expected:
            raise UsageError(f"expected an image of shape {expected}, got {tuple(image.shape)}")
        if self.input_form == "nhwc_uint8":
            image = image.permute(0, 3, 1, 2).to(torch.float32)
        x = image * PIXEL_SCALE - PIXEL_SHIFT if self.folded else image * self.scale + self.offset
        return cast(Tensor, self.net(x))


def deployment_module(
    net: DepthAnything, input_size: Size, input_form: InputForm, *, passes: Sequence[ExtraPass] = ()
) -> DeploymentModule:
    """A frozen copy of net for one bucket: what torch.export, NNCF and the targets' compilers are given.

    input_size: (height, width), multiples of 14. input_form: "nhwc_uint8" takes (1, h, w, 3) uint8,
    "nchw_float" (1, 3, h, w) float32, both RGB in 0..255. Returns a module on the CPU in eval mode, no
    gradients, float32, that shares no storage with net; its output is (1, h, w) float32. passes: of EXTRA_PASSES.
    An encoder of another family stays as transformers wrote it. Raises UsageError.
    """
    if input_form not in INPUT_FORMS:
        raise UsageError(f"no input form named '{input_form}'", hint=f"known: {', '.join(INPUT_FORMS)}")
    if unknown := [name for name in passes if name not in EXTRA_PASSES]:
        raise UsageError(f"no pass named '{unknown[0]}'", hint=f"known: {', '.join(EXTRA_PASSES)}")
    for side in input_size:
        check_multiple(side, what="input size")
    size = (input_size[0], input_size[1])
    frozen = copy.deepcopy(net).to("cpu", torch.float32).eval().requires_grad_(False)
    if isinstance(frozen.pretrained, DinoV2):
        frozen.pretrained.gradient_checkpointing = False
    drop_dead_weights(frozen)
    fold_batch_norm(frozen)
    fix_position_embedding(frozen, size)
    fold_layer_scale(frozen)
    write_out_attention(frozen)
    folded = fold_normalisation(frozen) > 0
    if "safe-layer-norm" in passes:
        write_out_safe_layer_norms(frozen)
    if "resize-by-matmul" in passes:
        resize_by_matmul(frozen, size)
    return DeploymentModule(frozen, size, input_form, folded=folded).eval().requires_grad_(False)
