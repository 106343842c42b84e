"""What a saved .tflite file really does: counted from the file, not believed from the recipe.

An operator runs in int8 when its input, weights and output are all stored as int8. A layer whose
output was not quantised is converted without complaint to float weights and a float kernel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datk.targets.int8_layers import Int8Layer, differing, rows
from datk.targets.int8_record import Int8Findings, some
from datk.targets.tflite.flatbuffer import parse

WEIGHTED = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "BATCH_MATMUL")
"""Operators that multiply by weights. A BATCH_MATMUL of two activations is attention, not a layer."""
MAY_BE_INT8 = frozenset(
    {
        *("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "QUANTIZE", "DEQUANTIZE"),
        *("RESHAPE", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "SPLIT", "SQUEEZE", "EXPAND_DIMS", "PAD"),
        *("RELU", "GELU", "LOGISTIC", "RESIZE_BILINEAR"),
    }
)
"""Layers, moves of data, and elementwise functions between two int8 layers (exact tables or rounding that the
next layer's own quantisation contains). Anything else in int8 is a residual add, a piece of LayerNorm, softmax or
an attention matmul: the operators that cost most accuracy."""

INTEGER_WEIGHTS = ("int8-weights", "int8-dynamic")
"""Precisions with int8 weights and float activations in the file."""


@dataclass(frozen=True)
class Layer:
    """A linear or convolution that is meant to run in int8."""

    name: str
    shape: tuple[int, ...]
    """Weight as LiteRT stores it, (output channels, height, width, input channels) or, depthwise, (1, height, width,
    channels); sides of 1 left out."""

    @classmethod
    def from_torch(cls, name: str, shape: tuple[int, ...], *, depthwise: bool = False) -> Layer:
        """shape: torch's (out, in) of a linear or (out, in, kh, kw) of a convolution; (out, 1, kh, kw) if depthwise."""
        if depthwise:
            return cls(name, stored_shape((*shape[2:], shape[0])))
        return cls(name, stored_shape((shape[0], *shape[2:], shape[1])))


@dataclass(frozen=True)
class WeightedOp:
    """One operator with constant weights, as stored."""

    kind: str
    name: str
    shape: tuple[int, ...]
    activation: str
    """Type of its input."""
    weight: str
    """Type its weights are stored in."""
    output: str
    per_channel: bool
    numbers: Int8Layer | None = None
    """Of an int8 layer: what its weights and input scale are worth."""
    nbytes: int = 0
    """Of its weights in the file."""
    unpacked: bool = False
    """A DEQUANTIZE stands between the stored weights and the layer."""

    @property
    def runs_in(self) -> Literal["int8", "float", "mixed"]:
        types = {self.activation, self.weight, self.output}
        if types == {"INT8"}:
            return "int8"
        return "float" if types <= {"FLOAT32", "FLOAT16"} else "mixed"


@dataclass(frozen=True)
class Graph:
    """The parts of a .tflite file that the lint judges."""

    weighted: tuple[WeightedOp, ...]
    int8_kinds: Counter[str]
    """Operator type -> how many read or write int8 activations."""
    edges: tuple[str, str]
    """Types of the file's input and output."""


def stored_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """shape without its sides of 1, so that a linear and a 1x1 convolution compare equal."""
    return tuple(int(side) for side in shape if side != 1)


def read_graph(path: Path) -> Graph:
    """Parse a saved .tflite file (main subgraph). Raises TargetError when it is none."""
    from ai_edge_litert import schema_py_generated as schema

    model = parse(path.read_bytes())
    graph = model.subgraphs[0]
    operators = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    types = {v: k for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
    tensors = graph.tensors

    def kind_of(op: Any) -> str:
        code = model.operatorCodes[op.opcodeIndex]
        return str(operators[max(code.builtinCode, code.deprecatedBuiltinCode)])

    def constant(index: int) -> bool:
        return index >= 0 and model.buffers[tensors[index].buffer].data is not None

    unpacked = {op.outputs[0]: op.inputs[0] for op in graph.operators if kind_of(op) == "DEQUANTIZE"}
    weighted: list[WeightedOp] = []
    int8_kinds: Counter[str] = Counter()
    for op in graph.operators:
        kind = kind_of(op)
        moving = [i for i in (*op.inputs, *op.outputs) if i >= 0 and not constant(i)]
        if any(types[tensors[i].type] in ("INT8", "UINT8", "INT16") for i in moving) and not _edge(op, graph, kind):
            int8_kinds[kind] += 1
        stored = unpacked.get(op.inputs[1], op.inputs[1]) if kind in WEIGHTED else -1
        if constant(stored):
            weight = tensors[stored]
            scales = weight.quantization.scale if weight.quantization is not None else None
            data = op.inputs[2] if kind == "TRANSPOSE_CONV" else op.inputs[0]
            channels = weight.shape[3] if kind == "DEPTHWISE_CONV_2D" else weight.shape[0]
            name = tensors[op.outputs[0]].name.decode(errors="replace")
            raw = model.buffers[weight.buffer].data
            numbers = types[weight.type] == "INT8" and kind in ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D")
            weighted.append(
                WeightedOp(
                    kind=kind,
                    name=name,
                    numbers=_numbers(kind, name, weight, raw, tensors[data]) if numbers else None,
                    nbytes=len(raw),
                    unpacked=op.inputs[1] in unpacked,
                    shape=stored_shape(weight.shape),
                    activation=types[tensors[data].type],
                    weight=types[weight.type],
                    output=types[tensors[op.outputs[0]].type],
                    per_channel=scales is not None and len(scales) == channels,
                )
            )
    edges = (types[tensors[graph.inputs[0]].type], types[tensors[graph.outputs[0]].type])
    return Graph(tuple(weighted), int8_kinds, edges)


def _numbers(kind: str, name: str, weight: Any, raw: Any, data: Any) -> Int8Layer | None:
    """Dequantised weights, (out, rest in torch's order), and the scale of the input; None without scales."""
    scales = weight.quantization.scale if weight.quantization is not None else None
    if scales is None:
        return None
    stored = np.frombuffer(np.asarray(raw, np.uint8).tobytes(), np.int8).reshape(weight.shape).astype(np.float32)
    factors = np.asarray(scales, np.float32)
    if kind == "DEPTHWISE_CONV_2D":  # (1, height, width, channels)
        array = (stored * factors).transpose(3, 0, 1, 2)
    else:
        array = stored * factors.reshape(-1, *[1] * (stored.ndim - 1))
    if array.ndim == 4 and kind != "DEPTHWISE_CONV_2D":  # (out, height, width, in)
        array = array.transpose(0, 3, 1, 2)
    steps = data.quantization.scale if data.quantization is not None else None
    return Int8Layer(name.rsplit("/", 1)[-1], rows(array), None if steps is None else float(steps[0]))


def _edge(op: Any, graph: Any, kind: str) -> bool:
    """The photograph's own 8 bits on their way into float, or the map's into 8 bits: not quantisation of the net."""
    if kind == "QUANTIZE" and op.outputs[0] == graph.outputs[0]:
        return True
    return kind in ("CAST", "TRANSPOSE", "RESHAPE") and op.inputs[0] == graph.inputs[0]


def _wrong_edges(graph: Graph, output: str) -> list[str]:
    expected = ("UINT8", output.upper())
    return [f"input and output are {graph.edges}, expected {' and '.join(expected)}"] if graph.edges != expected else []


def lint_int8(
    path: Path,
    wanted: Sequence[Layer],
    *,
    not_quantised: Sequence[str] = (),
    program: Sequence[Int8Layer] = (),
    adds: int = 0,
    output: str = "float32",
) -> dict[str, Any]:
    """The check `int8-scheme` on a saved file: every wanted layer in int8 per channel, nothing fragile in int8.

    wanted: the layers the scheme selects. not_quantised: those among them the program left in float. program: the
    quantised program's layers, whose weights and input scales the file must hold. adds: how many adds the scheme
    quantises (of a net of convolutions alone); one more is fragile, one less is reported. output: the contract's type.
    """
    graph = read_graph(path)
    in_int8 = [op for op in graph.weighted if op.runs_in == "int8"]
    missing = _missing(wanted, in_int8)
    mixed = [op for op in graph.weighted if op.runs_in == "mixed"]
    fake = [op.name for op in mixed if op.weight != "INT8"]
    half_way = [op.name for op in mixed if op.weight == "INT8"]
    other = []
    if half_way:
        other.append(f"{len(half_way)} operators mix int8 and float: {some(half_way)}")
    implied = len(in_int8) - (len(wanted) - len(missing)) - sum(op.kind == "TRANSPOSE_CONV" for op in in_int8)
    if implied > 0:
        other.append(f"{implied} layers run in int8 though the scheme keeps them in float")
    if graph.int8_kinds["ADD"] < adds:
        other.append(f"{graph.int8_kinds['ADD']} adds run in int8, the scheme quantises {adds}")
    other += _wrong_edges(graph, output)
    kept = MAY_BE_INT8 | ({"ADD"} if 0 < graph.int8_kinds["ADD"] <= adds else set())
    numbers = [op.numbers for op in in_int8 if op.numbers is not None]
    findings = Int8Findings(
        meant=len(wanted),
        int8_ops=dict(Counter(op.kind for op in in_int8)),
        float_ops=dict(Counter(op.kind for op in graph.weighted if op.runs_in == "float")),
        int8_weight_bytes=sum(op.nbytes for op in graph.weighted if op.weight == "INT8"),
        not_int8=[*missing, *not_quantised],
        float_weights=fake,
        fragile=[f"{n} {kind}" for kind, n in sorted(graph.int8_kinds.items()) if kind not in kept],
        per_tensor=[op.name for op in in_int8 if not op.per_channel],
        scales=differing(numbers, program) if program else [],
        other=other,
    )
    besides = {k: n for k, n in sorted(graph.int8_kinds.items()) if k not in WEIGHTED}
    return findings.record() | {"int8_besides": besides}


def lint_float(path: Path, precision: str, *, output: str = "float32") -> dict[str, Any]:
    """The check `weights` on a saved fp32 or fp16 file: every layer's weights stored as the precision says."""
    graph = read_graph(path)
    expected = {"fp32": "FLOAT32", "fp16": "FLOAT16"}[precision]
    stored = dict(sorted(Counter(op.weight for op in graph.weighted).items()))
    problems: list[str] = []
    if wrong := [op.name for op in graph.weighted if op.weight != expected]:
        problems.append(f"{len(wrong)} layers are not stored as {expected}: {some(wrong)}")
    if not graph.weighted:
        problems.append("the file holds no layer with weights")
    if graph.int8_kinds:
        problems.append(f"int8 activations in a {precision} file: {dict(graph.int8_kinds)}")
    problems += _wrong_edges(graph, output)
    return {
        "status": "failed" if problems else "passed",
        "detail": "; ".join(problems) or f"{len(graph.weighted)} layers, weights stored as {expected}",
        "stored": stored,
    }


def lint_weights(path: Path, precision: str) -> dict[str, Any]:
    """The check `compressed-weights`: every layer's weights in int8 per channel, every activation in float.

    int8-weights must unpack them before the layer, int8-dynamic must hand them to the layer as they are: only then
    does LiteRT compute in int8.
    """
    graph = read_graph(path)
    problems: list[str] = []
    if not graph.weighted:
        problems.append("the file holds no layer with weights")
    if wrong := [op.name for op in graph.weighted if op.weight != "INT8"]:
        problems.append(f"{len(wrong)} layers have weights that are not int8: {some(wrong)}")
    if coarse := [op.name for op in graph.weighted if op.weight == "INT8" and not op.per_channel]:
        problems.append(f"{len(coarse)} layers have one scale for all output channels: {some(coarse)}")
    if touched := [op.name for op in graph.weighted if {op.activation, op.output} != {"FLOAT32"}]:
        problems.append(f"{len(touched)} layers have activations that are not float: {some(touched)}")
    dynamic = sum(not op.unpacked for op in graph.weighted)
    if dynamic != (len(graph.weighted) if precision == "int8-dynamic" else 0):
        problems.append(f"{dynamic} of {len(graph.weighted)} layers take int8 weights as they are: not {precision}")
    return {
        "status": "failed" if problems else "passed",
        "detail": "; ".join(problems) or f"{len(graph.weighted)} layers, weights in int8 per channel ({precision})",
        "int8_weight_bytes": sum(op.nbytes for op in graph.weighted if op.weight == "INT8"),
        "layers": dict(sorted(Counter(op.kind for op in graph.weighted).items())),
    }


def _missing(wanted: Sequence[Layer], in_int8: Sequence[WeightedOp]) -> list[str]:
    """Names of wanted layers for which no int8 operator with such weights is left.

    Matched by the weights' shape, because converters fuse and rename: among layers of one shape, the
    last ones are named.
    """
    left = Counter(op.shape for op in in_int8 if op.kind != "TRANSPOSE_CONV")
    missing: list[str] = []
    for layer in wanted:
        if left[layer.shape] > 0:
            left[layer.shape] -= 1
        else:
            missing.append(layer.name)
    return missing
