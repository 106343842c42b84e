"""The same net with every gain moved into the weights beside it, in the official architecture.

Deployment folds LayerScale and BatchNorm away. A net whose gains are 1 already is deployed with the very weights that
stand in its file, so weights that learn in the deployed form (quantisation-aware training) are the file's own.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from datk.models.depth_anything import DepthAnything
from datk.models.dinov2 import Attention, Block, DinoV2, LayerScale, Mlp, SwiGlu


def absorb_gains(net: DepthAnything) -> DepthAnything:
    """A copy of net, equal in function up to rounding and in layout: LayerScale is 1, BatchNorm only adds its bias.

    Deployed, it has the weights that net has when deployed: diag(gamma) W in front of a LayerScale, gamma/sigma W in
    front of a BatchNorm.
    """
    plain = copy.deepcopy(net).to("cpu", torch.float32).eval()
    if isinstance(plain.pretrained, DinoV2):
        for module in plain.pretrained.blocks:
            block = cast(Block, module)
            mlp = cast(Mlp | SwiGlu, block.mlp)
            last = mlp.w3 if isinstance(mlp, SwiGlu) else mlp.fc2
            for gain, linear in ((block.ls1, cast(Attention, block.attn).proj), (block.ls2, last)):
                if isinstance(gain, LayerScale):
                    _absorb_scale(gain, linear)
    for module in plain.modules():
        norm = getattr(module, "normalization", None)
        if isinstance(norm, nn.BatchNorm2d):
            _absorb_norm(cast(nn.Conv2d, module.convolution), norm)
    return plain


def bias_of(layer_bias: str, net: DepthAnything) -> str:
    """Name in net's state of what is, deployed, the bias `layer_bias`: a folded BatchNorm's where one stands behind."""
    path, _, leaf = layer_bias.rpartition(".")
    owner, _, last = path.rpartition(".")
    if leaf == "bias" and last == "convolution":
        norm = getattr(net.get_submodule(owner), "normalization", None)
        if isinstance(norm, nn.BatchNorm2d):
            return f"{owner}.normalization.bias"
    return layer_bias


@torch.no_grad()
def _absorb_scale(gain: LayerScale, linear: nn.Linear) -> None:
    linear.weight.mul_(gain.gamma[:, None])
    linear.bias.mul_(gain.gamma)
    gain.gamma.fill_(1.0)


@torch.no_grad()
def _absorb_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    fused = fuse_conv_bn_eval(convolution, norm)
    assert convolution.bias is None and fused.bias is not None
    assert norm.running_mean is not None and norm.running_var is not None
    convolution.weight.copy_(fused.weight)
    norm.running_mean.zero_()
    norm.weight.copy_((norm.running_var + norm.eps).sqrt())
    norm.bias.copy_(fused.bias)
