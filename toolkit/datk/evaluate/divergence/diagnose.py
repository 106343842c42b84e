"""The miscompile detector: known-bad tools first, then the first wrong layer of a saved artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from datk.depth.io_spec import Contract
from datk.depth.runner import ImageU8
from datk.errors import UsageError
from datk.evaluate.divergence.locate import ROUNDED, TOLERANCES, WEAKEST, Finding, Located, locate
from datk.evaluate.divergence.seen import Seen
from datk.targets.base import Target
from datk.targets.known_bad import Known, known_bad
from datk.targets.trace import Trace, TracedTensor

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.fx import GraphModule

MEMORY_BYTES = 2**30
"""Tensors of one photograph held at a time; the largest (attention of big nets) are looked at only where needed."""
LARGEST_SHOWN = 5


class LayerError(BaseModel):
    """One layer's own error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str
    op: str
    own_error: float


class Diagnosis(BaseModel):
    """Whether an artifact computes what its source does, and if not, from where on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judged_by: str
    output_error: float | None
    """Relative L2 error of the artifact's map against the float net's on the photograph looked at; None: not finite."""
    n_layers: int
    n_found: int
    """Operations of the float net, and those the artifact has a tensor for; the rest was fused away."""
    known: tuple[Known, ...]
    findings: tuple[Finding, ...]
    largest: tuple[LayerError, ...]
    """The layers with the largest own errors, whether out of line or not."""
    not_finite: tuple[str, ...]
    """Tensors of the artifact with nan or infinity, first ones first."""

    def sentences(self) -> list[str]:
        """For a message, most important first."""
        said = [k.sentence() for k in self.known if k.certain]
        if self.not_finite:
            said.append(f"not finite from '{self.not_finite[0]}' on ({len(self.not_finite)} tensors)")
        said += [f.sentence() for f in self.findings]
        if not said:
            worst = ", ".join(f"{e.layer} {100 * e.own_error:.2g} %" for e in self.largest[:3])
            off = "not finite" if self.output_error is None else f"off by {100 * self.output_error:.2g} %"
            said.append(
                f"no layer is out of line (map {off} on this photograph, largest own errors: {worst}): "
                "the loss is spread, not one miscompiled layer"
            )
        return said + [k.sentence() for k in self.known if not k.certain]


def diagnose(
    target: Target,
    artifact: Path,
    contract: Contract,
    module: nn.Module,
    image: ImageU8,
    *,
    tools: Mapping[str, str],
    program: tuple[GraphModule, torch.Tensor] | None = None,
    quantised: GraphModule | None = None,
) -> Diagnosis:
    """Look for the first layer of a saved artifact that does not do what module does.

    module: the float deployment module it was made from, taking the target's input form. image: (h, w, 3) uint8 RGB of
    the bucket. tools: versions by distribution that built or run it. program: float_program's answer, where it was made
    before. quantised: the quantised program an int8 artifact was made from; beside it, a layer is suspected from half a
    per cent on (beyond the rounding of its result), beside the float net from some eight. Raises UsageError for a
    target that cannot be looked into, TargetError and DataError as its tracer does.
    """
    if target.tracer is None:
        raise UsageError(f"target '{target.name}' has no tracer: its artifacts cannot be looked into")
    trace: Trace = target.load(target.tracer)(artifact, contract)
    net, pixels = program or float_program(module, image, target.input_form)
    if quantised is not None:
        net = quantised
    expected = net(pixels).detach().numpy()
    sizes = {n.meta["val"].numel() for n in net.graph.nodes if hasattr(n.meta.get("val"), "numel")}
    wanted = [t for t in trace.tensors if int(np.prod(t.shape, dtype=np.int64)) in sizes or not t.shape]
    names, left_out = _affordable(wanted, trace.output_name)
    values = trace.run(image, names)
    seen = Seen(trace.tensors, trace.input_name, values)
    tolerance = TOLERANCES.get(contract.precision, WEAKEST) if quantised is None else ROUNDED
    found = locate(net, pixels, seen, output=trace.output_name, tolerance=tolerance)
    if left_out and found.findings:
        seen = _closer(trace, image, seen, found.findings[0], left_out)
        found = locate(net, pixels, seen, output=trace.output_name, tolerance=tolerance)
    trace.close()
    return _diagnosis(trace, found, seen, values.get(trace.output_name), expected, known_bad(target, contract, tools))


def float_program(module: nn.Module, image: ImageU8, input_form: str) -> tuple[GraphModule, torch.Tensor]:
    """The exported float program and its input for one bucket image."""
    import torch
    from torch.fx import GraphModule as Graph

    from datk.targets.chatter import sdk_chatter_off

    pixels = torch.from_numpy(np.ascontiguousarray(image)[None])  # (1, h, w, 3)
    if input_form == "nchw_float":
        pixels = pixels.permute(0, 3, 1, 2).float().contiguous()
    with sdk_chatter_off(), torch.no_grad():
        program = torch.export.export(module, (pixels,)).module(check_guards=False)
    assert isinstance(program, Graph)
    return program, pixels


def _affordable(tensors: Sequence[TracedTensor], output: str) -> tuple[list[str], list[TracedTensor]]:
    """Names that fit into memory together, smallest first, and the tensors that do not."""
    spent = 0
    names, left_out = [output], []
    for tensor in sorted(tensors, key=lambda t: int(np.prod(t.shape, dtype=np.int64))):
        size = 4 * int(np.prod(tensor.shape, dtype=np.int64))
        if spent + size > MEMORY_BYTES:
            left_out.append(tensor)
        else:
            spent += size
            names.append(tensor.name)
    return names, left_out


def _closer(trace: Trace, image: ImageU8, seen: Seen, finding: Finding, left_out: Sequence[TracedTensor]) -> Seen:
    """Look again with the large tensors around a finding: those nearest before the tensor it showed at."""
    at = seen.order.get(finding.tensor or "", len(seen.order))
    near = sorted(left_out, key=lambda t: abs(seen.order[t.name] - at))
    names, _ = _affordable(near, trace.output_name) if len(near) <= 4 else ([t.name for t in near[:4]], [])
    return Seen(trace.tensors, trace.input_name, {**seen.values, **trace.run(image, names)})


def _diagnosis(
    trace: Trace,
    found: Located,
    seen: Seen,
    output: np.ndarray | None,
    expected: np.ndarray,
    known: tuple[Known, ...],
) -> Diagnosis:
    error: float | None = None
    if output is not None and output.size == expected.size and np.isfinite(output).all():
        size = float(np.linalg.norm(expected)) or 1.0
        error = float(np.linalg.norm(output.ravel().astype(np.float64) - expected.ravel())) / size
    steps = found.followed
    worst = sorted(steps.synced, key=lambda s: -(s.match.error if s.match else 0.0))[:LARGEST_SHOWN]
    return Diagnosis(
        judged_by=trace.label,
        output_error=error,
        n_layers=len(steps.steps),
        n_found=len(steps.synced),
        known=known,
        findings=tuple(found.findings),
        largest=tuple(LayerError(layer=s.layer, op=s.op, own_error=s.match.error) for s in worst if s.match),
        not_finite=tuple(seen.not_finite),
    )
