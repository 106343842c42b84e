"""What a target is: a light description with lazy references to its compiler and its runtime."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import Contract, DepthKind, Size
from datk.errors import EnvironmentLacks, UsageError

if TYPE_CHECKING:
    from torch import nn

    from datk.depth.runner import Runner
    from datk.targets.pt2e import QuantScheme

PRECISIONS = ("fp32", "fp16", "int8", "int8-weights", "int8-dynamic", "int4-weights", "lut8", "lut6", "lut4")
"""Every precision name datk knows; a target lists those it has."""

InputForm = Literal["nhwc_uint8", "nchw_float"]
"""What the deployment module takes: (1, h, w, 3) uint8, or (1, 3, h, w) float32, both RGB in 0..255."""


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """One artifact to compile. `module` already holds the float net or NNCF's quantised program."""

    module: nn.Module
    """Deployment module: raw RGB 0..255 in the target's input form -> (1, h, w) float32 depth.
    For int8 it is the quantised torch.fx.GraphModule that NNCF made with this target's scheme."""
    precision: str
    input_size: Size
    depth_kind: DepthKind
    max_depth_m: float | None = None
    photos: Sequence[NDArray[np.uint8]] = ()
    """Bucket images (h, w, 3) uint8 RGB for range checks on real activations (fp16 overflow)."""
    float_module: nn.Module | None = None
    """The float deployment module behind a quantised one, for checks that need it."""
    scheme: QuantScheme | None = None
    """What a quantised `module` was made with; None: the target's own scheme as it stands."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Written into the file's own metadata where the format has any."""
    options: Any = None
    """The target's own Options model, or None."""
    out: Path
    """Existing empty folder. The target writes its artifact here and nothing elsewhere."""


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """What a target built, and what its own checks found."""

    artifact: Path
    """The file or package (folder) to ship, inside BuildRequest.out."""
    contract: Contract
    extra_files: tuple[Path, ...] = ()
    """Build scripts, plans, engines: shipped beside the artifact."""
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name -> {"status": "passed" | "failed" | "not_measured", "detail": str, ...figures}.
    A failed check rejects the artifact (exit 3); not_measured carries its reason in detail."""


@dataclass(frozen=True, kw_only=True)
class PackRequest:
    """Artifacts of one net in one precision, each of another size, to be made into one that takes all sizes."""

    parts: Mapping[str, Path]
    """Entry point -> artifact of that size; the first is what runs when no entry is named."""
    contract: Contract
    """Of the whole: its buckets name every entry."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    out: Path
    """Existing folder. The target writes its artifact here and nothing elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A light description: importing it imports no SDK. Every callable is a lazy "module:attr"."""

    name: str
    title: str
    package: str
    """The target's own package, __name__ of its __init__."""
    suffix: str
    """Of the artifact: .onnx, .tflite, .mlpackage."""
    precisions: tuple[str, ...]
    default_precisions: tuple[str, ...]
    modules: tuple[str, ...]
    """Importable names the compiler needs; doctor and export look for them before anything starts."""
    extra: str
    """Extra of the distribution that brings them: pip install "datk[EXTRA]"."""
    input_form: InputForm = "nhwc_uint8"
    build: str = ".build:build"
    """(BuildRequest) -> BuildResult"""
    runner: str | None = ".runner:open_artifact"
    """(artifact: Path, contract: Contract) -> Runner; None when it cannot run on a host at all."""
    not_here: str | None = None
    """() -> str: why this machine cannot run what the target builds, in words; empty when it can. Such an artifact is
    built and checked all the same, and marked unverified. None: it runs wherever its modules are."""
    latency_runner: str | None = None
    """As `runner`, for timing, where judging runs differently (Q/DQ in float); None = the same."""
    profiler: str | None = None
    """(artifact: Path, contract: Contract, image: NDArray, runs: int) -> datk.targets.op_times.OpTimes, operator by
    operator as `latency_runner` runs it; None when the runtime tells no operator's time."""
    no_profile: str = "this target names no profiler"
    """Why there is no profiler."""
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    """Label of a runner -> what it is not: its speed and memory say nothing of what the target ships to."""
    tracer: str | None = None
    """(artifact: Path, contract: Contract) -> datk.targets.trace.Trace, which looks inside a saved artifact; None when
    the format lets nobody look."""
    op_lint: str | None = None
    """(datk.targets.op_lint.LintRequest) -> datk.targets.op_lint.OpLint: operators of an exported file that a device's
    delegate or compiler refuses or slows down; None when nothing is known of its devices."""
    device_build: str | None = None
    """(export folder: Path, version of `device_runtime` there: str) -> datk.targets.device_build.DeviceBuild, where
    something must be built or looked at on the very device; `datk export --device NAME` does that over the farm. None:
    the artifact runs as it is. Raises EnvironmentLacks for a version it has nothing for."""
    device_runtime: str | None = None
    """By the farm's name, what a device needs for that: tensorrt."""
    pack: str | None = None
    """(PackRequest) -> Path of one artifact that takes every size, equal weights stored once; None when a file of the
    format takes one size."""
    scheme: str | None = ".scheme:scheme"
    """() -> QuantScheme for int8; None when the target has no quantised precision."""
    foreign_encoders: tuple[str, ...] = ()
    """Precisions in which nets with another encoder than DINOv2 (datk.models.backbones) are taken."""
    options: str | None = None
    """pydantic model for recipe `targets[].options`; may have refuses(precision) -> why not, or None."""
    builds_on: tuple[str, ...] = ()
    """Other targets whose code this one uses: a change in their folders builds its artifacts anew."""
    tools: tuple[str, ...] = ()
    """Distributions whose version changes the artifact's bytes; part of the stage key."""

    def missing(self) -> list[str]:
        """Names from `modules` that cannot be found here. Imports nothing."""
        return [m for m in self.modules if importlib.util.find_spec(m) is None]

    def require(self) -> None:
        """Raise EnvironmentLacks (exit 4) with the pip line unless every module is here."""
        if missing := self.missing():
            raise EnvironmentLacks(
                f"target '{self.name}' needs {', '.join(missing)}, not installed here",
                hint=f'pip install "datk[{self.extra}]"   (see `datk targets doctor {self.name}`)',
            )

    def check_encoder(self, family: str | None, precision: str) -> None:
        """Raise UsageError unless a net with that encoder can be built. family: None for DINOv2 as the paper has it."""
        if family is not None and precision not in self.foreign_encoders:
            allowed = (
                f"{self.name} takes it in {', '.join(self.foreign_encoders)}"
                if self.foreign_encoders
                else (f"{self.name} takes DINOv2 alone; --target onnx --precision fp32 takes it")
            )
            raise UsageError(f"target '{self.name}' in {precision}: the net's encoder is {family}", hint=allowed)

    def check_precision(self, precision: str) -> None:
        """Raise UsageError unless this target has the precision."""
        if precision not in PRECISIONS:
            raise UsageError(f"no precision named '{precision}'", hint=f"known: {', '.join(PRECISIONS)}")
        if precision not in self.precisions:
            raise UsageError(f"target '{self.name}' has no {precision}", hint=f"it has: {', '.join(self.precisions)}")

    def load(self, reference: str) -> Callable[..., Any]:
        """Resolve one of the lazy references above, e.g. target.load(target.build)."""
        module, attribute = reference.split(":")
        return getattr(importlib.import_module(module, package=self.package), attribute)  # type: ignore[no-any-return]

    def cannot_run(self) -> str:
        """Why this machine cannot run what the target builds; empty when it can. Opens nothing."""
        if self.runner is None:
            return f"target '{self.name}' has no runner on a host"
        return str(self.load(self.not_here)()) if self.not_here is not None else ""

    def open(self, artifact: Path, contract: Contract) -> Runner:
        """A runner for an artifact on this machine. Raises EnvironmentLacks when it cannot be run here."""
        if reason := self.cannot_run():
            raise EnvironmentLacks(
                f"{artifact.name} cannot be run on this machine: {reason}", hint="run it where it is made for"
            )
        return self.load(str(self.runner))(artifact, contract)  # type: ignore[no-any-return]

    def open_for_latency(self, artifact: Path, contract: Contract) -> Runner:
        """A runner as an app would set it up. Raises as open does."""
        if self.latency_runner is None or self.cannot_run():
            return self.open(artifact, contract)
        return self.load(self.latency_runner)(artifact, contract)  # type: ignore[no-any-return]
