"""The int8 program of a net as something that learns: it rounds where the program rounds, on the net's own weights.

The engine quantises the net as for export and leaves weights in float in front of their quantize op; that program is
taken as it is. Only its integer ops are replaced: activations are rounded to the calibrated grid, weights to the grid
of their present values, and gradients pass straight through (Bengio et al. 2013, arXiv 1308.3432), but not where a
value lies beyond its range. What the scheme leaves in float has no such node.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.graph import CodeGen

from datk.depth.io_spec import IMAGENET_MEAN, IMAGENET_STD, Size
from datk.models.absorb import absorb_gains, bias_of
from datk.models.deployment import deployment_module
from datk.models.depth_anything import DepthAnything
from datk.quantize.calibration import input_tensor
from datk.quantize.ptq import export_program, quantize_module
from datk.targets.base import InputForm
from datk.targets.pt2e import QuantScheme, layer_names, weighted_nodes

Progress = Callable[[int, int], None]
SMALLEST = 2.0**-60
"""Stands for an exact zero in a weight that learns: the factor a scheme puts on it is read from a quotient."""
LEAST_REACH = 0.01
TOKENS = "net.pretrained.norm.weight"
"""The encoder's last LayerNorm, by its weight."""
_OPS = torch.ops.quantized_decomposed
_QUANTIZE = ("quantize_per_tensor.default", "quantize_per_channel.default")


@dataclass(frozen=True)
class FakeQuantised:
    """net: float, official layout; what learns are its own parameters. learner: the program on them."""

    net: DepthAnything
    learner: Learner
    learnt: tuple[str, ...]
    """Names of net's parameters that learn; the others have requires_grad False."""


class Learner(nn.Module):
    """(1, 3, h, w) normalised RGB -> (map (1, h, w), tokens (1, N, dim) of the last LayerNorm or None)."""

    mean: Tensor
    std: Tensor

    def __init__(self, program: GraphModule, input_form: InputForm) -> None:
        super().__init__()
        self.program, self.input_form = program, input_form
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        pixels = ((image * self.std + self.mean) * 255).round().clamp(0, 255)  # (1, 3, h, w): an artifact sees integers
        if self.input_form == "nhwc_uint8":
            pixels = pixels.permute(0, 2, 3, 1)
        depth, *tokens = self.program(pixels)
        return depth, tokens[0] if tokens else None


def learnable_scheme(scheme: QuantScheme) -> QuantScheme:
    """The scheme a net that learnt under it is exported with: no bias correction, since biases have learnt."""
    return replace(scheme, bias_correction="off")


def fake_quantised(
    net: DepthAnything,
    calibration: Sequence[NDArray[np.uint8]],
    scheme: QuantScheme,
    *,
    input_form: InputForm,
    input_size: Size,
    seed: int,
    min_images: int = 1,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> FakeQuantised:
    """What training runs: a copy of net, and the program that quantize_module(learnable_scheme(scheme)) makes of it.

    calibration, input_form, input_size, seed, min_images, names, progress: as quantize_module takes them. Ranges and
    SmoothQuant's factors are the calibration's and stay; the grid of a weight follows the weight. The patch embedding
    (the input's normalisation is folded into it) and the position embedding do not learn. Raises as quantize_module.
    """
    plain = absorb_gains(net)
    _fill_zeros(plain)
    module = deployment_module(plain, input_size, input_form)
    example = input_tensor(calibration[0], input_form)
    quantised = quantize_module(
        module,
        calibration,
        replace(learnable_scheme(scheme), fold_quantize=False),
        input_form=input_form,
        input_size=input_size,
        seed=seed,
        min_images=min_images,
        names=names,
        progress=progress,
    )
    floating = export_program(module, example).module(check_guards=False)
    assert isinstance(floating, GraphModule)
    program, learnt = _on_own_weights(quantised, floating, plain)
    for name, parameter in plain.named_parameters():
        parameter.requires_grad_(name in learnt)
    return FakeQuantised(plain, Learner(program, input_form), tuple(learnt))


def rounded_straight_through(value: Tensor, scale: float, zero_point: int, low: int, high: int) -> Tensor:
    """value on the grid scale * (low - zero_point .. high - zero_point), to the bit as the program's own ops put it
    there; the gradient is value's, 0 where value lies beyond the grid."""
    rounded: Tensor = _Rounding.apply(value, scale, zero_point, low, high)  # type: ignore[no-untyped-call]
    return rounded


def scaled_weight(weight: Tensor, factor: Tensor) -> Tensor:
    """weight times factor, (float64) a quotient: so that the product is to the bit what the quotient was taken from."""
    return (weight.double() * factor).float()


def rounded_weight(weight: Tensor, unit: Tensor, zero_point: Tensor, low: int, high: int, per_channel: bool) -> Tensor:
    """weight on a grid whose step is unit times its present reach; unit, zero_point: of the channels, or of all."""
    scale = (unit * reach(weight.detach(), per_channel=per_channel)).float()
    rounded: Tensor = _Rounding.apply(weight, scale, zero_point, low, high)  # type: ignore[no-untyped-call]
    return rounded


def reach(weight: Tensor, *, per_channel: bool) -> Tensor:
    """Largest |value| of each channel (axis 0), or of all, as broadcasts to weight; a channel counts a hundredth of the
    widest at least, as NNCF has it (fix_zero_filters_symmetric)."""
    widest = weight.abs().amax()
    if not per_channel:
        return widest.reshape((1,) * weight.ndim)
    own = weight.abs().flatten(1).amax(1).reshape(-1, *[1] * (weight.ndim - 1))
    return torch.maximum(own, LEAST_REACH * widest)


class _Rounding(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, value: Tensor, scale: float | Tensor, zero_point: int | Tensor, low: int, high: int
    ) -> Tensor:
        steps = torch.round(value * (1.0 / scale)) + zero_point
        ctx.save_for_backward((steps >= low) & (steps <= high))
        return (steps.clamp(low, high) - zero_point) * scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None, None, None


@torch.no_grad()
def _fill_zeros(net: nn.Module) -> None:
    for parameter in net.parameters():
        parameter.masked_fill_(parameter == 0, SMALLEST)


def _on_own_weights(
    quantised: GraphModule, floating: GraphModule, net: DepthAnything
) -> tuple[GraphModule, dict[str, None]]:
    """The program with fake quantisation on net's parameters, and which of them it reads, in order."""
    program = copy.deepcopy(quantised)
    graph = program.graph
    weights = {
        _leaf(node): f"{layer}.weight"
        for node, layer in zip(weighted_nodes(program), layer_names(floating), strict=True)
    }
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            graph.erase_node(node)
        elif any(str(node.target) == f"quantized_decomposed.{name}" for name in _QUANTIZE):
            _round_in_float(program, node)
    leaves = {n: weights.get(n, str(n.target)) for n in graph.nodes if n.op == "get_attr"}
    official = dict(net.named_parameters())
    root: dict[str, object] = {}
    learnt: dict[str, None] = {}
    for node, name in leaves.items():
        if not node.users:  # the grid of a weight, which now follows the weight
            graph.erase_node(node)
            continue
        value = _attribute(program, str(node.target)).detach()
        own = bias_of(name.removeprefix("net."), net)
        parameter = official.get(own)
        if parameter is None or not _same(_attribute(floating, name), parameter):
            root[str(node.target)] = value
            continue
        node.target = name
        root[name] = parameter
        learnt[own] = None
        if not _same(value, parameter):
            _scale(program, node, value.double() / parameter.detach().double(), root)
    for node in graph.nodes:
        if node.op == "call_module":
            root[str(node.target)] = program.get_submodule(str(node.target))
    _give_tokens(program)
    graph.set_codegen(CodeGen())
    found = GraphModule(root, graph)
    found.graph.lint()
    return found, learnt


def _leaf(layer: Node) -> Node:
    """The attribute at the start of a layer's weight."""
    weight = layer.args[1]
    while isinstance(weight, Node) and weight.op == "call_function":
        weight = weight.args[0]
    assert isinstance(weight, Node) and weight.op == "get_attr"
    return weight


def _round_in_float(program: GraphModule, node: Node) -> None:
    """Replace a quantize op and the dequantize ops that read it by one rounding in float."""
    source = node.args[0]
    assert isinstance(source, Node)
    if source.op == "get_attr":
        rounded = _rounded_weight(program, node, source)
    else:
        with program.graph.inserting_before(node):
            rounded = program.graph.call_function(rounded_straight_through, (source, *node.args[1:5]))
    for reader in list(node.users):
        reader.replace_all_uses_with(rounded)
        program.graph.erase_node(reader)
    program.graph.erase_node(node)


def _rounded_weight(program: GraphModule, node: Node, source: Node) -> Node:
    """The rounding of a weight, on the grid that the program has, as far as the weight reaches at the time."""
    weight = _attribute(program, str(source.target)).detach()
    per_channel = "per_channel" in str(node.target)
    if per_channel:
        scale, zero_point = (_attribute(program, str(a.target)).detach() for a in node.args[1:3] if isinstance(a, Node))
        axis, low, high = node.args[3:6]
        assert axis == 0, f"{source.target}: channels along axis {axis}"
    else:
        (scale, zero_point), (low, high) = (torch.tensor(a) for a in node.args[1:3]), node.args[3:5]  # type: ignore[arg-type]
    shape = (-1, *[1] * (weight.ndim - 1)) if per_channel else (1,) * weight.ndim
    unit = scale.reshape(shape).double() / reach(weight, per_channel=per_channel).double()
    stored = []
    for name, value in (("unit", unit), ("zero_point", zero_point.reshape(shape))):
        program.register_buffer(f"{name}_of_{node.name}", value)
        with program.graph.inserting_before(node):
            stored.append(program.graph.get_attr(f"{name}_of_{node.name}"))
    with program.graph.inserting_before(node):
        return program.graph.call_function(rounded_weight, (source, *stored, low, high, per_channel))


def _scale(program: GraphModule, node: Node, factor: Tensor, root: dict[str, object]) -> None:
    """What SmoothQuant or the outlier split multiply a weight by, after the weight that learns."""
    name = f"factor_{len(root)}"
    root[name] = factor
    program.register_buffer(name, factor)
    with program.graph.inserting_after(node):
        stored = program.graph.get_attr(name)
    with program.graph.inserting_after(stored):
        scaled = program.graph.call_function(scaled_weight, (node, stored))
    node.replace_all_uses_with(scaled, delete_user_cb=lambda user: user is not scaled)


def _give_tokens(program: GraphModule) -> None:
    """Make the program return a flat tuple, the tokens after its map where there are any."""
    norms = [n for n in program.graph.nodes if n.target is torch.ops.aten.layer_norm.default and _is_last_norm(n)]
    output = next(n for n in program.graph.nodes if n.op == "output")
    found = output.args[0]
    depth = found[0] if isinstance(found, tuple | list) else found
    output.args = ((depth, *norms[-1:]),)


def _is_last_norm(node: Node) -> bool:
    weight = node.args[2]
    while isinstance(weight, Node) and weight.op != "get_attr":
        weight = weight.args[0]
    return isinstance(weight, Node) and weight.target == TOKENS


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal up to the rounding of a folded gain."""
    return a.shape == b.shape and bool(torch.allclose(a, b.detach(), rtol=1e-5, atol=0.0))


def _attribute(program: GraphModule, path: str) -> Tensor:
    value: object = program
    for part in path.split("."):
        value = getattr(value, part)
    assert isinstance(value, Tensor)
    return value
