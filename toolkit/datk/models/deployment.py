"""The net as compilers get it: one input size, normalisation inside, nothing left to compute on shapes.

Differences from DepthAnything, none of which changes the function: the position embedding of the bucket is
a constant, attention is written out as matmul, softmax, matmul on 4-D tensors, LayerScale is folded
into the linear layer before it, and weights nothing reads are gone.
"""

from __future__ import annotations

import copy
from typing import Literal, cast

import torch
from torch import Tensor, nn

from datk.depth.io_spec import IMAGENET_MEAN, IMAGENET_STD, PATCH, Size
from datk.depth.preprocess import check_multiple
from datk.errors import UsageError
from datk.models.depth_anything import DepthAnything
from datk.models.dinov2 import Attention, Block, DinoV2, LayerScale, Mlp, SwiGlu

InputForm = Literal["nhwc_uint8", "nchw_float"]
INPUT_FORMS: tuple[InputForm, ...] = ("nhwc_uint8", "nchw_float")


class ExplicitAttention(Attention):
    """softmax(q k^T / sqrt(d)) v in plain operations, which every compiler takes."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split_heads(x)
        weights = torch.softmax(torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(2, 3)), dim=-1)  # (B, heads, N, N)
        return self.merge_heads(torch.matmul(weights, v))


class DeploymentModule(nn.Module):
    """Raw RGB of one bucket -> (1, h, w) float32 depth. Official submodule names stand below `net.`."""

    scale: Tensor
    offset: Tensor

    def __init__(self, net: DepthAnything, input_size: Size, input_form: InputForm) -> None:
        super().__init__()
        self.input_size = input_size
        self.input_form = input_form
        self.net = net
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
        return cast(Tensor, self.net(image * self.scale + self.offset))


def deployment_module(net: DepthAnything, input_size: Size, input_form: InputForm) -> DeploymentModule:
    """A frozen copy of net for one bucket: what torch.export, NNCF and the targets' compilers are given.

    input_size: (height, width), multiples of 14. input_form: "nhwc_uint8" takes (1, h, w, 3) uint8,
    "nchw_float" (1, 3, h, w) float32, both RGB in 0..255. Returns a module on the CPU in eval mode, no
    gradients, float32, that shares no storage with net; its output is (1, h, w) float32. An encoder of another family
    stays as transformers wrote it. Raises UsageError.
    """
    if input_form not in INPUT_FORMS:
        raise UsageError(f"no input form named '{input_form}'", hint=f"known: {', '.join(INPUT_FORMS)}")
    for side in input_size:
        check_multiple(side, what="input size")
    frozen = copy.deepcopy(net).to("cpu", torch.float32).eval().requires_grad_(False)
    encoder = frozen.pretrained
    del frozen.depth_head.scratch.refinenet4.resConfUnit1
    if isinstance(encoder, DinoV2):
        encoder.gradient_checkpointing = False
        encoder.fix_position((input_size[0] // PATCH, input_size[1] // PATCH))
        del encoder.mask_token
        for block in encoder.blocks:
            _simplify(cast(Block, block))
    return DeploymentModule(frozen, (input_size[0], input_size[1]), input_form).eval().requires_grad_(False)


def _simplify(block: Block) -> None:
    """Write attention out and fold both LayerScales, in place."""
    attention = cast(Attention, block.attn)
    attention.__class__ = ExplicitAttention
    _fold(cast(LayerScale, block.ls1), attention.proj)
    mlp = cast(Mlp | SwiGlu, block.mlp)
    _fold(cast(LayerScale, block.ls2), mlp.w3 if isinstance(mlp, SwiGlu) else mlp.fc2)
    block.ls1 = nn.Identity()
    block.ls2 = nn.Identity()


@torch.no_grad()
def _fold(gain: LayerScale, linear: nn.Linear) -> None:
    """gamma * (W x + b) == (diag(gamma) W) x + gamma * b."""
    linear.weight.mul_(gain.gamma[:, None])
    linear.bias.mul_(gain.gamma)
