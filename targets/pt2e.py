"""Which layers are quantised and how: a PT2E quantizer for linears and convolutions, nothing else.

Residual adds, LayerNorm, softmax, both attention matmuls, the patch embedding and the last head
convolutions stay in float: they lose most accuracy for least speed (LayerNorm variances and massive
activations in DINOv2, probabilities below one int8 step, the dense output's scale). Each target's
scheme.py says how its compiler wants the rest. A net of convolutions alone has neither attention nor LayerNorm: where
outputs are quantised, its adds are too, or each would leave int8 and come back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch.fx import GraphModule, Node

from datk.targets.chatter import sdk_chatter_off

with sdk_chatter_off():
    from torchao.quantization.pt2e.observer import MinMaxObserver, PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer
    from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

FLOAT_LAYERS = (r"(^|\.)patch_embed\.", r"(^|\.)output_conv2\.")
"""Module paths kept in float: the patch embedding and the last two convolutions of the DPT head."""

_LINEARS = (torch.ops.aten.linear.default,)
_CONVS = (torch.ops.aten.conv2d.default,)
_TRANSPOSED = (torch.ops.aten.conv_transpose2d.input,)
_RELUS = (torch.ops.aten.relu.default, torch.ops.aten.relu_.default)
_CLAMPS = (torch.ops.aten.hardtanh.default, torch.ops.aten.hardtanh_.default)
_ADDS = (torch.ops.aten.add.Tensor,)
_NOT_CONVOLUTIONAL = (
    *_LINEARS,
    torch.ops.aten.matmul.default,
    torch.ops.aten.softmax.int,
    torch.ops.aten.layer_norm.default,
)
_EPS = 2.0**-24


@dataclass(frozen=True, kw_only=True)
class GlobalConfig:
    """What LiteRT's QuantConfig reads from a quantizer."""

    is_dynamic: bool = False


class LinearConvQuantizer(Quantizer):
    """Annotates aten.linear and aten.conv2d: input, weight and, where the target wants it, output.

    symmetric_activations: zero point 0 (see datk.quantize.symmetric); else a zero point per tensor.
    unsigned_activations: uint8 instead of int8 (asymmetric only).
    per_channel_weights: one symmetric int8 scale per output channel; else one per tensor.
    quantize_outputs: also the result (after a fused ReLU): LiteRT runs an op in int8 only then.
    linears, convs, transposed_convs: which kinds; transposed convolutions get per-tensor weights.
    float_layers: regular expressions, searched in the module path plus "."; those layers stay float.
    """

    def __init__(
        self,
        *,
        symmetric_activations: bool = False,
        unsigned_activations: bool = False,
        per_channel_weights: bool = True,
        quantize_outputs: bool = False,
        linears: bool = True,
        convs: bool = True,
        transposed_convs: bool = False,
        float_layers: tuple[str, ...] = FLOAT_LAYERS,
    ) -> None:
        super().__init__()
        assert not (symmetric_activations and unsigned_activations), "symmetric activations are signed"
        self.symmetric_activations = symmetric_activations
        self.quantize_outputs = quantize_outputs
        self.float_layers = float_layers
        self.global_config = GlobalConfig()
        self._targets = (*(_LINEARS * linears), *(_CONVS * convs), *(_TRANSPOSED * transposed_convs))
        self._activation = _activation_spec(symmetric=symmetric_activations, unsigned=unsigned_activations)
        self._weight = _weight_spec(per_channel=per_channel_weights)
        self._weight_per_tensor = _weight_spec(per_channel=False)

    def narrowed(
        self, *, only: Literal["convolutions", "linears"] | None = None, float_layers: tuple[str, ...] = ()
    ) -> Self:
        """The same quantizer for fewer layers: one kind only, or without those that float_layers' expressions find."""
        other = copy(self)
        kinds = {None: self._targets, "linears": _LINEARS, "convolutions": (*_CONVS, *_TRANSPOSED)}[only]
        other._targets = tuple(t for t in self._targets if t in kinds)
        other.float_layers = (*self.float_layers, *float_layers)
        return other

    def selected(self, model: GraphModule) -> list[str]:
        """Module paths of the layers this quantizer quantises in an exported float program, in order."""
        return [layer_name(node) for node in self._nodes(model)]

    def annotate(self, model: GraphModule) -> GraphModule:
        """Write a QuantizationAnnotation on every selected node of an exported program."""
        for node in self.adds(model):
            inputs = dict.fromkeys(node.all_input_nodes, self._activation)
            node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(
                input_qspec_map=inputs, output_qspec=self._activation, _annotated=True
            )
        for node in self._nodes(model):
            data, weight = node.args[0], node.args[1]
            assert isinstance(data, Node) and isinstance(weight, Node)
            weights = self._weight_per_tensor if node.target in _TRANSPOSED else self._weight
            result = _fused_relu(node) if self.quantize_outputs else None
            output = self._activation if self.quantize_outputs and result is None else None
            node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(
                input_qspec_map={data: self._activation, weight: weights}, output_qspec=output, _annotated=True
            )
            if result is not None:
                result.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(output_qspec=self._activation, _annotated=True)
        return model

    def adds(self, model: GraphModule) -> list[Node]:
        """The adds of two activations that this quantizer quantises: of a convolutional net, where outputs are."""
        if not (self.quantize_outputs and is_convolutional(model)):
            return []
        found = [node for node in model.graph.nodes if node.target in _ADDS and len(node.all_input_nodes) == 2]
        return [node for node in found if all(source.op != "get_attr" for source in node.all_input_nodes)]

    def validate(self, model: GraphModule) -> None:
        """Nothing to check: annotate() writes only what every supported compiler takes."""

    def _nodes(self, model: GraphModule) -> Iterator[Node]:
        for node in model.graph.nodes:
            if node.op == "call_function" and node.target in self._targets and not self._is_float(node):
                yield node

    def _is_float(self, node: Node) -> bool:
        path = f"{layer_name(node)}."
        return any(re.search(pattern, path) for pattern in self.float_layers)


@dataclass(frozen=True, kw_only=True)
class QuantScheme:
    """How one target wants its int8 program: the quantizer and NNCF's algorithms around it."""

    quantizer: LinearConvQuantizer
    fold_quantize: bool
    """True stores int8 weights in the program; False leaves float weights with a quantize op (LiteRT)."""
    smooth_quant: bool
    smooth_quant_alpha: float = 0.15
    """Share of the range moved from activations to weights of linears; NNCF's own ViT-B conformance value."""
    bias_correction: Literal["off", "fast", "full"] = "fast"
    """fast: each layer's mean error against the float layer. full: the same in a program quantised up to that layer,
    layer by layer, which takes about a pass over a fifth of the images per layer."""
    ranges: Literal["default", "minmax", "mean", "quantile", "histogram"] = "minmax"
    """How an activation's range follows from its calibration images. minmax: the extremes over all of them. default:
    NNCF's own choice (extremes of symmetric and unsigned ones, means of extremes else, which cut up to 15 % of an
    attention output: docs/quantisation.md). histogram: the range with the least squared rounding error."""
    halved_weights: Literal["none", "first", "all"] = "none"
    """NNCF's overflow fix: these weights use half of int8's range, so that kernels which add pairs of products in 16
    bits (x86 without VNNI) cannot saturate. first: of the first quantised convolutions after the input, in this net
    the head's projections."""


def weighted_nodes(program: GraphModule) -> list[Node]:
    """Linears, convolutions and transposed convolutions of a float or quantised program, in graph order."""
    kinds = (*_LINEARS, *_CONVS, *_TRANSPOSED)
    return [node for node in program.graph.nodes if node.op == "call_function" and node.target in kinds]


def is_convolutional(program: GraphModule) -> bool:
    """Whether the net multiplies by weights in convolutions alone: no linear, attention or LayerNorm."""
    targets = {node.target for node in program.graph.nodes if node.op == "call_function"}
    return not targets.isdisjoint(_CONVS) and targets.isdisjoint(_NOT_CONVOLUTIONAL)


def layer_names(program: GraphModule) -> list[str]:
    """layer_name of each of weighted_nodes. Quantising keeps order and number."""
    return [layer_name(node) for node in weighted_nodes(program)]


def layer_name(node: Node) -> str:
    """Dotted path of the layer a linear or convolution node belongs to, from its weight's attribute name.

    The weight's name is used rather than nn_module_stack because a layer called through
    torch.nn.functional has no module of its own on that stack.
    """
    weight = node.args[1]
    while isinstance(weight, Node) and weight.op == "call_function":
        weight = weight.args[0]
    if isinstance(weight, Node) and weight.op == "get_attr":
        return str(weight.target).removesuffix(".weight")
    stack = node.meta.get("nn_module_stack") or {"": ("", None)}
    return str(list(stack.values())[-1][0])


def _activation_spec(*, symmetric: bool, unsigned: bool) -> QuantizationSpec:
    return QuantizationSpec(
        dtype=torch.uint8 if unsigned else torch.int8,
        quant_min=0 if unsigned else -127 if symmetric else -128,
        quant_max=255 if unsigned else 127,
        qscheme=torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine,
        observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=_EPS),
    )


def _weight_spec(*, per_channel: bool) -> QuantizationSpec:
    observer = PerChannelMinMaxObserver if per_channel else MinMaxObserver
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric,
        ch_axis=0 if per_channel else None,
        observer_or_fake_quant_ctr=observer.with_args(eps=_EPS),
    )


def _fused_relu(node: Node) -> Node | None:
    """The ReLU or ReLU6 that alone reads this node's result: a compiler fuses the two, so its output is the op's."""
    users = list(node.users)
    if len(users) != 1:
        return None
    clamped = users[0].target in _CLAMPS and users[0].args[1:2] == (0.0,)
    return users[0] if clamped or users[0].target in _RELUS else None
