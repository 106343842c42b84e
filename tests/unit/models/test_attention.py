"""Attention written out for bfloat16 on a CPU gives what torch's fused operator gives, in any grouping of heads."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from datk.models import attention
from datk.models.attention import attend


def heads(tokens: int) -> list[torch.Tensor]:
    """(2, 3, tokens, 16) as split_heads leaves them: transposed views."""
    made = torch.Generator().manual_seed(tokens)
    return [torch.randn(2, tokens, 3, 16, generator=made).transpose(1, 2) for _ in range(3)]


@pytest.mark.parametrize("at_once", [1, 4 * 37 * 37 * 2, 1 << 30], ids=["head by head", "four heads", "all heads"])
def test_bfloat16_inference_on_a_cpu_is_as_near_the_truth_as_the_fused_operator(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "AT_ONCE_BYTES", at_once)
    q, k, v = heads(37)
    truth = F.scaled_dot_product_attention(q, k, v)
    rounded = [x.bfloat16() for x in (q, k, v)]
    fused = F.scaled_dot_product_attention(*rounded)
    with torch.inference_mode():
        ours = attend(*rounded)
    assert ours.dtype == torch.bfloat16 and not torch.equal(ours, fused)
    assert (ours - truth).abs().max() < 2 * (fused - truth).abs().max()


@pytest.mark.parametrize("gradients", [True, False])
def test_float32_and_training_keep_the_fused_operator(gradients: bool) -> None:
    dtype = torch.bfloat16 if gradients else torch.float32
    q, k, v = (x.to(dtype) for x in heads(20))
    with torch.set_grad_enabled(gradients):
        assert torch.equal(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))
