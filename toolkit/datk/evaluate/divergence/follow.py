"""Run the float net beside an artifact, each layer on what the artifact itself fed to its counterpart.

The exported program is executed node by node. Wherever the artifact holds a tensor with the computed values, its own
values take their place, so that errors do not pile up and every layer is judged on the inputs it really had. What a
compiler fused away is not there; the computed values then go on, and the next tensor that is there settles it.
Behind a wrong layer nothing agrees any more, up to the output: those nodes are `lost`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datk.evaluate.divergence.seen import Match, Seen, Sources

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import GraphModule, Node

MOVES = frozenset(
    (
        *("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "contiguous"),
        *("transpose", "permute", "t", "slice", "select", "cat", "clone", "alias", "to", "_to_copy"),
        *("split", "split_with_sizes", "chunk", "unbind", "getitem"),
    )
)
"""Operations that move values without changing them."""
ACTIVATIONS = frozenset(("relu", "relu_", "gelu", "silu", "sigmoid", "leaky_relu", "hardswish"))
"""What compilers fuse into the layer before: its own result is then nowhere."""
CLEARLY = 0.25
"""A layer's activation is the better match when it errs by less than this share of what the layer itself does."""


ROUNDINGS = ("quantize_", "dequantize_")
"""How the names of what rounds begin: their integers are not looked for, and they are never to blame."""
LAYERS = frozenset(("linear", "conv2d", "conv_transpose2d"))


@dataclass(frozen=True)
class Tolerance:
    """Largest relative L2 error, on given inputs, at which a tensor still counts as an operation's result."""

    layer: float
    """Of a linear or convolution."""
    other: float
    """Of anything else."""
    least: float | None = None
    """No layer is suspected below it; None: below `other`."""

    @property
    def suspect(self) -> float:
        """See `least`."""
        return self.other if self.least is None else self.least

    def of(self, op: str) -> float:
        return self.layer if op in LAYERS else self.other


@dataclass(frozen=True)
class Step:
    """One node of the float program, held against the artifact."""

    node: str
    layer: str
    """Module path of the torch net."""
    op: str
    match: Match | None
    """None: the artifact has no tensor with these values."""
    sources: Sources
    """Artifact tensors it was computed from."""
    inputs: tuple[str, ...]
    """Names of the nodes it reads that depend on the image."""


@dataclass
class Followed:
    """The whole program, followed once."""

    steps: dict[str, Step] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()
    """Unmatched nodes from which only unmatched ones lead to the output."""
    output_error: float = float("inf")
    """Relative error of the artifact's output against the last layers run on its own inputs."""
    stand_ins: list[Match] = field(default_factory=list)
    """Tensors that could be what the artifact has for the node that was asked about."""

    @property
    def synced(self) -> list[Step]:
        return [s for s in self.steps.values() if s.match is not None]


def operation(node: Node) -> str:
    """`linear`, `layer_norm`, ...: what a node computes, in ATen's words."""
    target = node.target
    name = getattr(target, "__name__", str(target))
    return str(name).split(".")[0]


def layer_path(node: Node) -> str:
    """Module path in the torch net of the layer a node belongs to: `pretrained.blocks.3.attn.proj`."""
    paths = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path]
    if not paths:
        return "(input)"
    return "(whole net)" if paths[-1] == "net" else str(paths[-1]).removeprefix("net.")


def follow(
    program: GraphModule,
    image: Tensor,
    seen: Seen,
    *,
    output: str,
    tolerance: Tolerance,
    taken: Mapping[str, Match],
    ask: str | None = None,
) -> Followed:
    """program: exported float deployment module. image: its input. output: name of the artifact's output tensor.

    tolerance: at which error a tensor still counts as a node's. taken: node -> the tensor to accept
    as its value however wrong (so that what lies behind it can be judged). ask: node whose possible tensors are listed.
    """
    import torch

    with torch.no_grad():
        return _Follower(program, seen, output, tolerance, taken, ask).run(image)


class _Follower:
    """One run of the program beside the artifact."""

    def __init__(
        self,
        program: GraphModule,
        seen: Seen,
        output: str,
        tolerance: Tolerance,
        taken: Mapping[str, Match],
        ask: str | None,
    ) -> None:
        self._program = program
        self._seen = seen
        self._output = output
        self._tolerance = tolerance
        self._taken = taken
        self._ask = ask
        self._values: dict[str, Any] = {}
        self._sources: dict[str, Sources] = {}
        self._done = Followed()

    def run(self, image: Tensor) -> Followed:
        nodes = list(self._program.graph.nodes)
        left = {node.name: len(node.users) for node in nodes}
        for node in nodes:
            if node.op == "placeholder":
                self._values[node.name] = image
                self._sources[node.name] = frozenset((frozenset((next(iter(self._seen.order)),)),))
            elif node.op == "get_attr":
                self._values[node.name] = _attribute(self._program, str(node.target))
            elif node.op in ("call_function", "call_module"):  # a module: SmoothQuant's factors in a quantised program
                self._values[node.name] = _run(node, self._values)
                self._settle(node, tuple(n.name for n in node.all_input_nodes if n.name in self._sources))
            elif node.op == "output":
                (last,) = node.all_input_nodes
                self._done.lost = _lost(self._done, last.name)
            for read in node.all_input_nodes:
                left[read.name] -= 1
                if not left[read.name]:
                    del self._values[read.name]
        return self._done

    def _settle(self, node: Node, reads: tuple[str, ...]) -> None:
        """Find the tensor of a node that depends on the image in the artifact, and take its values over."""
        import torch

        if not reads:
            return
        value = self._values[node.name]
        came_from = frozenset(source for name in reads for source in self._sources[name])
        match = None
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel() > 1:
            if node.name == self._ask:
                self._done.stand_ins = self._seen.in_place_of(value.numpy(), came_from)
            match = self._match(node, value, came_from)
        if match is not None:
            self._values[node.name] = torch.tensor(self._seen.value(match, tuple(value.shape)))
        self._sources[node.name] = came_from if match is None else frozenset((match.group,))
        self._done.steps[node.name] = Step(node.name, layer_path(node), operation(node), match, came_from, reads)

    def _match(self, node: Node, value: Tensor, came_from: Sources) -> Match | None:
        wanted = value.numpy()
        if node.name in self._taken:
            return self._taken[node.name]
        if any(user.op == "output" for user in node.users):
            return self._match_output(wanted)
        match = self._seen.best(wanted, came_from, self._tolerance.of(operation(node)))
        if match is not None and _belongs_to_activation(node, value, match, self._seen):
            return None
        return match

    def _match_output(self, wanted: NDArray[np.float32]) -> Match | None:
        """The output is known by name: nothing else may take its part. Its error counts against its variation."""
        found = self._seen.values.get(self._output)
        if found is None or found.size != wanted.size:
            return None
        size = float(np.linalg.norm(wanted - wanted.mean())) or 1.0
        self._done.output_error = float(np.linalg.norm(found.ravel() - wanted.ravel())) / size
        within = self._done.output_error <= self._tolerance.layer
        return Match(self._output, (), self._done.output_error) if within else None


def _belongs_to_activation(node: Node, value: Tensor, match: Match, seen: Seen) -> bool:
    """Whether the matched tensor really is the activation that follows, fused into this layer."""
    if match.error < 1e-4 or len(node.users) != 1:
        return False
    user = next(iter(node.users))
    if operation(user) not in ACTIVATIONS:
        return False
    after = _run(user, {node.name: value}).numpy()
    size = float(np.linalg.norm(after))
    return size > 0 and any(m.error < CLEARLY * match.error for m in seen.errors(match.tensor, after, size))


def _run(node: Node, values: Mapping[str, Any]) -> Any:
    from torch.fx.node import Node as FxNode
    from torch.fx.node import map_aggregate

    def resolved(argument: Any) -> Any:
        return values[argument.name] if isinstance(argument, FxNode) else argument

    compute = node.target
    if node.op == "call_module":
        owner = node.graph.owning_module
        assert owner is not None
        compute = owner.get_submodule(str(node.target))
    assert callable(compute)
    return compute(*map_aggregate(node.args, resolved), **map_aggregate(node.kwargs, resolved))


def _attribute(program: GraphModule, name: str) -> Any:
    value: Any = program
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _lost(done: Followed, last: str) -> frozenset[str]:
    lost: set[str] = set()
    queue = [last]
    while queue:
        name = queue.pop()
        step = done.steps.get(name)
        if step is None or step.match is not None or name in lost:
            continue
        lost.add(name)
        queue.extend(step.inputs)
    return frozenset(lost)
