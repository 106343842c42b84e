"""What artifacts are compared with: float student and teacher, opened once per process and bucket."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from datk.depth.io_spec import Size
from datk.evaluate.cached_runner import CachedRunner

if TYPE_CHECKING:
    from datk.evaluate.torch_runner import TorchRunner


@cache
def float_net(checkpoint: Path, digest: str, size: Size, name: str) -> TorchRunner:
    """The float32 net of a stage's checkpoint at one bucket. `digest` of the weights keys the memory."""
    from datk.evaluate.torch_runner import TorchRunner
    from datk.pipeline.steps import weights

    del digest
    return TorchRunner(weights.read(checkpoint).net, size, name=name)


@cache
def reference(checkpoint: Path, digest: str, size: Size, name: str) -> CachedRunner:
    """The same net, remembering its maps: one float pass serves every artifact of a run."""
    return CachedRunner(float_net(checkpoint, digest, size, name))
