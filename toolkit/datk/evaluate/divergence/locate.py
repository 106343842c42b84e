"""From the followed program to the layer that is wrong, and the proof: with its values taken over, the rest agrees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from datk.evaluate.divergence.follow import ACTIVATIONS, MOVES, ROUNDINGS, Followed, Step, Tolerance, follow
from datk.evaluate.divergence.seen import Match, Seen

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import GraphModule

MANY_TIMES = 8.0
"""A layer is out of line when it errs by this many times what its like do, and by more than other operations may."""
MOST_FINDINGS = 3
MOST_TRIED = 8
"""Tensors tried as a lost layer's own before its place is left unproven."""
PERMUTING = frozenset(("transpose", "permute", "t"))


TOLERANCES = {"fp32": Tolerance(layer=1e-3, other=1e-3), "fp16": Tolerance(layer=5e-3, other=5e-3)}
ROUNDED = Tolerance(layer=0.05, other=0.05, least=5e-3)
"""int8 beside the quantised program it was made from: the same roundings, but for ties and kernels one step off."""
WEAKEST = Tolerance(layer=0.2, other=0.08)
"""int8 and weaker beside the float net: layers are rounded, and what lies between them hardly."""


class Finding(BaseModel):
    """One layer that is wrong in the artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str
    """Module path in the torch net."""
    op: str
    node: str
    """Name in the exported program, which tells apart several operations of one layer."""
    which: str = ""
    """"2 of 4" where the layer has several such operations."""
    position: int
    n_layers: int
    """Its place among the operations that were followed, from 1."""
    own_error: float | None
    """Relative error of the layer on the inputs it had in the artifact; None when nothing there holds its result."""
    usual_error: float | None
    """Median of the other layers of its kind."""
    tensor: str | None
    made_by: str | None
    """The artifact's tensor in its place, and the operator that makes it."""
    proven: bool
    """With this layer's own values taken over, everything behind it agrees up to the output (or the next finding)."""

    def sentence(self) -> str:
        """For a message: which layer, how wrong, how sure."""
        name = f"{self.layer} ({self.op}{f', {self.which}' if self.which else ''})"
        error = "its result is nowhere in the file"
        if self.own_error is not None:
            usual = "" if self.usual_error is None else f", its like {100 * self.usual_error:.2g} %"
            error = f"off by {100 * self.own_error:.2g} % on the inputs it had{usual}"
        made = f"; in the file {self.made_by} '{self.tensor}'" if self.tensor else ""
        sure = "everything behind it agrees once its values are taken over" if self.proven else "not proven"
        return f"first wrong layer: {name}, {error}{made}; {sure}"


@dataclass(frozen=True)
class Located:
    """What locate found."""

    findings: list[Finding]
    followed: Followed
    """The last run, with every finding's values taken over."""


def locate(program: GraphModule, image: Tensor, seen: Seen, *, output: str, tolerance: Tolerance) -> Located:
    """The wrong layers of an artifact in the order of the net, at most three. See follow for the arguments."""

    def run(taken: Mapping[str, Match], ask: str | None = None) -> Followed:
        return follow(program, image, seen, output=output, tolerance=tolerance, taken=taken, ask=ask)

    taken: dict[str, Match] = {}
    named: set[str] = set()
    findings: list[Finding] = []
    followed = run(taken)
    while len(findings) < MOST_FINDINGS:
        suspect = _first_suspect(followed, tolerance, named)
        if suspect is None:
            break
        blamed, step = suspect
        match, proven = step.match, True
        moved = _wrong_move(run, taken, step, followed, tolerance) if match is None else None
        if moved is not None:
            step, match, followed = moved
            blamed = _blame_moved(followed, step)
            taken[step.node] = match
        elif match is None:
            holder, match, followed = _stand_in(run, taken, step, followed, tolerance)
            proven = match is not None and not any(holder.node in followed.steps[n].inputs for n in followed.lost)
            named.add(step.node)
            step = holder
            if match is not None:
                taken[step.node] = match
        findings.append(_finding(followed, blamed, step, match, seen, proven=proven))
        named |= {blamed.node, step.node}
        if match is None:
            break
    return Located(findings, followed)


def _first_suspect(followed: Followed, tolerance: Tolerance, named: set[str]) -> tuple[Step, Step] | None:
    """(step to blame, step at which it showed) of the first problem in the net's order."""
    for step in followed.steps.values():
        if step.node in named or step.op.startswith(ROUNDINGS):
            continue
        if step.match is not None:
            usual = usual_error(followed, step) or 0.0
            least = tolerance.other if step.op in MOVES else tolerance.suspect  # a file may round before or behind one
            if _beyond(step, followed) > max(least, MANY_TIMES * usual):
                return _blame_fused(followed, step), step
        elif step.node in followed.lost and not any(s.node in followed.lost for s in _fed_by(step, followed)):
            return _blame_moved(followed, step), step
    return None


def _beyond(step: Step, followed: Followed) -> float:
    """A matched step's error without what its own rounding explains and those of unmatched steps it was computed by."""
    assert step.match is not None
    roundings, queue, passed = 1, list(step.inputs), set()
    while queue:
        name = queue.pop()
        before = followed.steps.get(name)
        if before is None or name in passed or (before.match is not None and not before.op.startswith(ROUNDINGS)):
            continue
        passed.add(name)
        roundings += before.op.startswith("quantize_")
        queue += before.inputs
    return step.match.beyond(roundings)


def usual_error(followed: Followed, step: Step) -> float | None:
    """Median own error of the other matched steps of the same operation; of all when there is no other.

    Without what rounding to a tensor's integers explains.
    """
    alike = [s for s in followed.synced if s.op == step.op and s is not step]
    others = [_beyond(s, followed) for s in alike or [s for s in followed.synced if s is not step]]
    return float(np.median(others)) if others else None


def _blame_fused(followed: Followed, step: Step) -> Step:
    """The first layer among those fused into the tensor that is off: they share its error."""
    fused: list[Step] = []
    queue = list(step.inputs)
    while queue:
        before = followed.steps.get(queue.pop())
        if before is not None and before.match is None and before not in fused:
            fused.append(before)
            queue.extend(before.inputs)
    order = list(followed.steps)
    real = [s for s in fused if s.op not in MOVES]
    return min([*real, step], key=lambda s: order.index(s.node))


def _blame_moved(followed: Followed, step: Step) -> Step:
    """A swapped axis shows at the next reshape: go back over moves to the transposition that is not there as it is."""
    if step.op not in MOVES:
        return step
    queue = list(step.inputs)
    while queue:
        before = followed.steps.get(queue.pop(0))
        if before is None or before.op not in MOVES or (before.match is not None and before.match.layout == ()):
            continue
        if before.op in PERMUTING:
            return before
        queue.extend(before.inputs)
    return step


def _fed_by(step: Step, followed: Followed) -> list[Step]:
    """The steps it reads; behind a quantisation what was quantised."""
    found, queue = [], list(step.inputs)
    while queue:
        before = followed.steps.get(queue.pop(0))
        if before is not None and before.op.startswith(ROUNDINGS):
            queue += before.inputs
        elif before is not None:
            found.append(before)
    return found


def _wrong_move(
    run: Callable[..., Followed], taken: dict[str, Match], step: Step, followed: Followed, tolerance: Tolerance
) -> tuple[Step, Match, Followed] | None:
    """Whether a lost layer is right and was fed in a wrong order: (the move before it, what it made, the run then).

    A move whose values are there in another layout only may be done by the file or not. When the layer agrees once it
    is fed what stands there in the move's place, the move is wrong and not the layer.
    """
    for move in _fed_by(step, followed):
        if step.op in MOVES or move.op not in MOVES or move.match is None or move.match.layout == ():
            continue
        wrong = [m for m in run(taken, move.node).stand_ins if m.error > tolerance.other]
        as_it_is, moved = [m for m in wrong if m.layout == ()], [m for m in wrong if m.layout != ()]
        for option in as_it_is[:MOST_TRIED] + moved[:MOST_TRIED]:
            after = run({**taken, move.node: option})
            if step.node not in after.lost and len(after.lost) < len(followed.lost):
                return move, option, after
    return None


def _stand_in(
    run: Callable[..., Followed], taken: dict[str, Match], step: Step, followed: Followed, tolerance: Tolerance
) -> tuple[Step, Match | None, Followed]:
    """(node, tensor in its place, the run with it): of those that could be a lost layer's, after which least is lost.

    The node is the layer's own or, fused with it, the activation that follows. A tensor that alone holds another
    node's values is that node's; one of several copies may be what a wrong move left behind.
    """
    matches = [s.match for s in followed.synced if s.match is not None]
    used = {m.tensor for m in matches if m.error <= tolerance.other and len(m.group) == 1}
    best: tuple[Step, Match | None, Followed] = (step, None, followed)
    fused = [s for s in followed.steps.values() if s.inputs == (step.node,) and s.op in ACTIVATIONS]
    for holder in (step, *fused):
        options = [m for m in run(taken, holder.node).stand_ins if m.tensor not in used]
        for option in options[:MOST_TRIED]:
            after = run({**taken, holder.node: option})
            if len(after.lost) < len(best[2].lost):
                best = (holder, option, after)
            if not after.lost:
                return best
    return best


def _finding(followed: Followed, blamed: Step, step: Step, match: Match | None, seen: Seen, *, proven: bool) -> Finding:
    order = list(followed.steps)
    alike = [s.node for s in followed.steps.values() if (s.layer, s.op) == (blamed.layer, blamed.op)]
    which = f"{alike.index(blamed.node) + 1} of {len(alike)}" if len(alike) > 1 else ""
    return Finding(
        layer=blamed.layer,
        op=blamed.op,
        node=blamed.node,
        which=which,
        position=order.index(blamed.node) + 1,
        n_layers=len(order),
        own_error=None if match is None else match.error,
        usual_error=usual_error(followed, step),
        tensor=None if match is None else match.tensor,
        made_by=None if match is None else seen.tensors[match.tensor].made_by,
        proven=proven,
    )
