"""Scaled dot-product attention, in the form that is fastest where it runs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

AT_ONCE_BYTES = 4 << 20
"""Scores computed together: one head of 518x518, many of 252x252; what a CPU's caches hold."""


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v. q, k, v: (B, heads, N, d). Returns (B, heads, N, d).

    torch's own operator, except for bfloat16 inference on a CPU: its fused kernel there takes 1.5 times as long as the
    products written out (ViT-S at 252 and 518, AVX512-BF16). Scores are then rounded to bfloat16 before the softmax.
    """
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and not torch.is_grad_enabled():
        return _written_out(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


def _written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As many heads at a time as AT_ONCE_BYTES of scores allow, at least one."""
    b, heads, n, d = q.shape
    q, k, v = (x.reshape(b * heads, n, d) for x in (q * d**-0.5, k, v))
    together = max(1, AT_ONCE_BYTES // (n * n * q.element_size()))
    parts = zip(q.split(together), k.split(together), v.split(together), strict=True)
    return torch.cat([(pq @ pk.transpose(1, 2)).softmax(-1) @ pv for pq, pk, pv in parts]).reshape(b, heads, n, d)
