"""Fold BatchNorm into the convolution before it: gamma (W x - mean)/sigma + beta == (gamma/sigma W) x + bias.

Before quantisation, so that the weights a quantiser ranges are those that run.
"""

from __future__ import annotations

from typing import cast

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(net: nn.Module) -> int:
    """Fold every BatchNorm that stands behind a convolution as `normalization`, in place; returns how many.

    net: in eval mode; a module whose BatchNorm went has None there.
    """
    folded = 0
    for module in list(net.modules()):
        norm = getattr(module, "normalization", None)
        if isinstance(norm, nn.BatchNorm2d):
            module.convolution = fuse_conv_bn_eval(cast(nn.Conv2d, module.convolution), norm)
            module.register_module("normalization", None)
            folded += 1
    return folded
