"""What quantising one layer alone costs: every layer, block and kind of operation, against the float net.

The float net runs once per photograph and keeps what later layers need. For each unit only its layers compute with
8-bit values (quantised and dequantised in float, per tensor for activations, per output channel for weights), and
only what lies behind them runs again. Operations that schemes keep in float are measured as kinds too, so that the
map shows why. SmoothQuant and bias correction are not in it: the map tells where they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.node import map_aggregate

from datk.depth.io_spec import DepthKind, Size
from datk.evaluate.metrics import score_reference
from datk.quantize.calibration import check_calibration, input_tensor
from datk.quantize.ptq import export_program
from datk.quantize.units import Unit, depends_on_image, units_of
from datk.targets.base import InputForm

Progress = Callable[[int, int, str], None]
Figures = dict[str, float]
"""Of one unit on one photograph: `error` = 1 - Pearson correlation, `abs_rel` after alignment; nan when undefined."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """How the map quantises. The defaults are what every target shares."""

    symmetric_activations: bool = False
    """Zero point 0, as TensorRT wants it; else the whole range is used."""
    quantize_outputs: bool = False
    """A layer's result too, as LiteRT needs it; else its input and weight only."""


class FloatRun:
    """One photograph through the float program, with what the units need kept."""

    def __init__(self, program: GraphModule, image: Tensor, keep: frozenset[str]) -> None:
        self.kept: dict[str, Any] = {}
        values: dict[str, Any] = {}
        left = {node.name: len(node.users) for node in program.graph.nodes}
        for node in program.graph.nodes:
            if node.op == "output":
                self.output: Tensor = values[node.all_input_nodes[0].name]
                break
            values[node.name] = image if node.op == "placeholder" else compute(program, node, values)
            if node.name in keep:
                self.kept[node.name] = values[node.name]
            for read in node.all_input_nodes:
                left[read.name] -= 1
                if not left[read.name]:
                    del values[read.name]


class SensitivityMeter:
    """A float program with its units and activation ranges, ready to measure photograph by photograph."""

    def __init__(
        self,
        module: nn.Module,
        images: Sequence[NDArray[np.uint8]],
        *,
        input_form: InputForm,
        input_size: Size,
        form: Form,
    ) -> None:
        """module: float deployment module. images: bucket images the ranges are drawn from. Raises DataError."""
        check_calibration(images, input_size)
        self._form = input_form
        self.how = form
        program = export_program(module, input_tensor(images[0], input_form)).module(check_guards=False)
        assert isinstance(program, GraphModule)
        self._program = program
        self.units = units_of(program)
        self._nodes = list(program.graph.nodes)
        self._behind = _descendants(self._nodes)
        self._image = depends_on_image(program)
        self._ranges: dict[str, tuple[float, float]] = {}
        self._keep = frozenset().union(*(self._needs(unit) for unit in self.units))

    @torch.no_grad()
    def learn_ranges(self, images: Sequence[NDArray[np.uint8]], progress: Callable[[int, int], None]) -> None:
        """Smallest and largest value of every tensor some unit quantises, over images. One float pass each."""
        wanted = {name for unit in self.units for name in self._quantised(unit)}
        for done, image in enumerate(images, start=1):
            values: dict[str, Any] = {}
            pixels = input_tensor(image, self._form)
            left = {node.name: len(node.users) for node in self._nodes}
            for node in self._nodes:
                if node.op == "output":
                    break
                values[node.name] = pixels if node.op == "placeholder" else compute(self._program, node, values)
                if node.name in wanted:
                    low, high = (float(v) for v in torch.aminmax(values[node.name]))
                    before = self._ranges.get(node.name, (0.0, 0.0))
                    self._ranges[node.name] = (min(before[0], low), max(before[1], high))
                for read in node.all_input_nodes:
                    left[read.name] -= 1
                    if not left[read.name]:
                        del values[read.name]
            progress(done, len(images))

    @torch.no_grad()
    def measure(
        self, image: NDArray[np.uint8], units: Sequence[Unit], kind: DepthKind
    ) -> Iterator[tuple[Unit, Figures]]:
        """Each unit's figures on one bucket image, as they come."""
        base = FloatRun(self._program, input_tensor(image, self._form), self._keep)
        expected = base.output[0].numpy()
        for unit in units:
            found = self._run_with(unit, base)[0].numpy()
            score = score_reference(found, expected, kind=kind)
            yield unit, {"error": 1.0 - score.correlation, "abs_rel": score.abs_rel}

    def _run_with(self, unit: Unit, base: FloatRun) -> Tensor:
        """The map when only unit is quantised."""
        treated = set(unit.nodes)
        dirty = treated | set().union(*(self._behind[name] for name in unit.nodes))
        values: dict[str, Any] = {}
        left = {n.name: sum(u.name in dirty for u in n.users) for n in self._nodes}
        for node in self._nodes:
            if node.op == "output":
                return values[node.all_input_nodes[0].name]  # type: ignore[no-any-return]
            if node.name not in dirty:
                continue
            for read in node.all_input_nodes:
                self._fetch(read, values, base)
            if node.name in treated and unit.weighted:
                values[node.name] = self._quantised_layer(node, values)
            else:
                values[node.name] = compute(self._program, node, values)
                if node.name in treated:
                    values[node.name] = self._rounded(values[node.name], node.name)
            for read in node.all_input_nodes:
                left[read.name] -= 1
                if left[read.name] <= 0:
                    values.pop(read.name, None)
        raise AssertionError("a program ends with its output")

    def _fetch(self, node: Node, values: dict[str, Any], base: FloatRun) -> None:
        """Put the value of a node that is not computed anew into values: kept, or made of constants alone."""
        if node.name in values:
            return
        if node.name in base.kept:
            values[node.name] = base.kept[node.name]
            return
        for read in node.all_input_nodes:
            self._fetch(read, values, base)
        values[node.name] = compute(self._program, node, values)

    def _quantised_layer(self, node: Node, values: Mapping[str, Any]) -> Tensor:
        data, weight = node.args[0], node.args[1]
        assert isinstance(data, Node) and isinstance(weight, Node)
        transposed = "transpose" in str(node.target)
        own = {
            **values,
            data.name: self._rounded(values[data.name], data.name),
            weight.name: rounded_weight(values[weight.name], per_channel=not transposed),
        }
        result: Tensor = compute(self._program, node, own)
        return self._rounded(result, node.name) if self.how.quantize_outputs else result

    def _rounded(self, value: Tensor, name: str) -> Tensor:
        low, high = self._ranges[name]
        return rounded_activation(value, low, high, symmetric=self.how.symmetric_activations)

    def _quantised(self, unit: Unit) -> Iterator[str]:
        """Names of the tensors a unit rounds."""
        for node in self._nodes:
            if node.name in unit.nodes:
                if unit.weighted:
                    yield node.args[0].name
                if not unit.weighted or self.how.quantize_outputs:
                    yield node.name

    def _needs(self, unit: Unit) -> frozenset[str]:
        """What a run of this unit takes from the float run."""
        dirty = set(unit.nodes).union(*(self._behind[name] for name in unit.nodes))
        reads = {r.name for n in self._nodes if n.name in dirty for r in n.all_input_nodes}
        return frozenset(reads - dirty) & self._image


def compute(program: GraphModule, node: Node, values: Mapping[str, Any]) -> Any:
    """The value of one node of an exported program."""
    if node.op == "get_attr":
        value: Any = program
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value

    def resolved(argument: Any) -> Any:
        return values[argument.name] if isinstance(argument, Node) else argument

    assert callable(node.target)
    return node.target(*map_aggregate(node.args, resolved), **map_aggregate(node.kwargs, resolved))


def rounded_activation(value: Tensor, low: float, high: float, *, symmetric: bool) -> Tensor:
    """value on the grid of 8 bits that covers [low, high], zero among its points; beyond it is clipped."""
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        scale = max(-low, high) / 127 or 1.0
        return torch.fake_quantize_per_tensor_affine(value, scale, 0, -127, 127)
    scale = (high - low) / 255 or 1.0
    return torch.fake_quantize_per_tensor_affine(value, scale, round(-low / scale), 0, 255)


def rounded_weight(weight: Tensor, *, per_channel: bool) -> Tensor:
    """weight on a symmetric grid of 8 bits, -127..127, one scale per output channel (axis 0) or one for all."""
    if not per_channel:
        scale = float(weight.abs().max()) / 127 or 1.0
        return torch.fake_quantize_per_tensor_affine(weight, scale, 0, -127, 127)
    scales = (weight.abs().flatten(1).amax(1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    zeros = torch.zeros(len(scales), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -127, 127)


def _descendants(nodes: Sequence[Node]) -> dict[str, set[str]]:
    behind: dict[str, set[str]] = {}
    for node in reversed(nodes):
        behind[node.name] = set()
        for user in node.users:
            if user.op != "output":
                behind[node.name] |= {user.name, *behind[user.name]}
    return behind
