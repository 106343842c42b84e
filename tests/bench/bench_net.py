"""Net forward and training step as ratios to a plain eager implementation, interleaved in one run.

Plain eager: attention written out through a 5-D view as in the official code without xFormers, q scaled,
softmax, matmul; everything else the same layers and weights.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from datk.models.depth_anything import DepthAnything
from datk.models.dinov2 import Attention

CASES = (("tiny", 126, 1), ("small", 252, 1))
FORWARD_RUNS, STEP_RUNS = 9, 3


class PlainAttention(Attention):
    """The official eager form: one 5-D tensor for q, k and v."""

    def forward(self, x: Tensor) -> Tensor:
        b, n, dim = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0] * (dim // self.heads) ** -0.5, qkv[1], qkv[2]
        weights = (q @ k.transpose(-2, -1)).softmax(dim=-1)
        out: Tensor = self.proj((weights @ v).transpose(1, 2).reshape(b, n, dim))
        return out


def plain(net: DepthAnything) -> DepthAnything:
    """A net of the same weights with plain attention."""
    other = DepthAnything(net.preset)
    other.load_state_dict(net.state_dict())
    for module in other.modules():
        if type(module) is Attention:
            module.__class__ = PlainAttention
    return other


def forward_once(net: DepthAnything, x: Tensor) -> Callable[[], None]:
    def call() -> None:
        with torch.inference_mode():
            net(x)

    return call


def step_once(net: DepthAnything, x: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-6)

    def call() -> None:
        optimizer.zero_grad(set_to_none=True)
        net.forward_train(x)[0].square().mean().backward()
        optimizer.step()

    return call


def interleaved(first: Callable[[], None], second: Callable[[], None], runs: int) -> tuple[float, float]:
    """Median seconds of each, taken in turn so that the machine's mood meets both; one warm-up each."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(runs + 1):
        for call, record in zip((first, second), times, strict=True):
            start = time.perf_counter()
            call()
            if turn:
                record.append(time.perf_counter() - start)
    return median(times[0]), median(times[1])


def run() -> list[dict[str, Any]]:
    """One row per case: median in ms (value), the reference's, and value / reference (below 1 is faster)."""
    rows: list[dict[str, Any]] = []
    for size, side, batch in CASES:
        torch.manual_seed(0)
        net = DepthAnything(size)
        reference = plain(net)
        x = torch.randn(batch, 3, side, side)
        for what, once, runs, mode in (
            ("forward", forward_once, FORWARD_RUNS, nn.Module.eval),
            ("training step", step_once, STEP_RUNS, nn.Module.train),
        ):
            mode(net), mode(reference)
            ours, theirs = interleaved(once(net, x), once(reference, x), runs)
            rows.append(
                {
                    "name": f"{size} {what} {side}x{side}, batch {batch}",
                    "value": ours * 1e3,
                    "unit": "ms",
                    "n": runs,
                    "reference": f"plain eager attention: {theirs * 1e3:.4g} ms",
                    "ratio": ours / theirs,
                }
            )
        del net, reference
        gc.collect()
    return rows


if __name__ == "__main__":
    for row in run():
        print(f"{row['name']:40s} {row['value']:9.1f} {row['unit']}  {row['reference']:40s} ratio {row['ratio']:.2f}")
