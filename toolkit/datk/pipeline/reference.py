"""What artifacts are compared with: float student and teacher, opened once per process and bucket."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from datk.depth.io_spec import DepthKind, Size
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


@cache
def teacher_reference(spec: str, digest: str, size: Size, kind: DepthKind) -> CachedRunner:
    """A teacher, remembering its maps, at one bucket. spec: as --teacher takes it; digest: keys the memory.

    kind: what the student returns. A teacher of another quantity answers in disparity where that is asked for; else it
    keeps its own, which a comparison then refuses.
    """
    from datk.config.train_sections import PseudoLabelSection
    from datk.depth.teacher import TeacherRunner
    from datk.models.outside import is_outside
    from datk.pipeline.teachers import open_teacher

    if not is_outside(spec):
        plain = reference(Path(spec), digest, size, "teacher")
        if plain.depth_kind is kind:
            return plain
    teacher = open_teacher(spec, PseudoLabelSection(input_size=size), device="cpu", precision="fp32")
    disparity = kind is DepthKind.DISPARITY_AFFINE_INVARIANT
    return CachedRunner(TeacherRunner(teacher, size, name="teacher", as_disparity=disparity))
