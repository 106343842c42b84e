"""The same graph in opset 17, the newest that TensorRT 8.6's parser takes.

Most operators did not change between 17 and the exporter's opset, or only took further types; the rest is written in
opset 17's words: GELU by its error function, axes of a reduction as an attribute. What cannot be is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper

from datk.errors import TargetError
from datk.targets.onnx.export import with_types
from datk.targets.onnx.graph import attribute, drop_unused, values

OPSET = 17
IR_VERSION = 8
"""Of ONNX 1.12, which opset 17 came with."""

_NEW_DEFAULTS: dict[str, dict[str, object]] = {
    "Cast": {"saturate": 1},
    "QuantizeLinear": {"saturate": 1},
    "Reshape": {"allowzero": 0},
    "Resize": {"antialias": 0, "keep_aspect_ratio_policy": b"stretch"},
}
"""Attributes younger than opset 17, or left at what they mean there: dropped when they say this."""
_REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceProd")


def in_opset_17(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a float32 (or int8 Q/DQ) model made by onnx_model; tensors keep their names and values.

    Raises TargetError, naming the operator, for one that opset 17 has no words for.
    """
    now = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    old = onnx.ModelProto.FromString(model.SerializeToString())
    graph = old.graph
    constants = {i.name: i for i in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes += _REWRITES.get(node.op_type, _as_it_is)(node, constants)
    for node in nodes:
        _check(node, now)
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    have = {i.name for i in graph.initializer}
    graph.initializer.extend(t for name, t in constants.items() if name not in have)
    drop_unused(graph)
    del old.opset_import[:]
    old.opset_import.append(helper.make_opsetid("", OPSET))
    old.ir_version = IR_VERSION
    return with_types(old)


def _check(node: onnx.NodeProto, now: int) -> None:
    """Raise TargetError when opset 17 has no such operator, or not these attributes or inputs."""
    try:
        schema = defs.get_schema(node.op_type, OPSET, "")
    except defs.SchemaError as error:
        raise TargetError(f"opset {OPSET} has no {node.op_type} ({node.name}), which opset {now} has") from error
    unknown = [a.name for a in node.attribute if a.name not in schema.attributes]
    if unknown or len(node.input) > schema.max_input:
        raise TargetError(
            f"{node.op_type} ({node.name}) says in opset {now} what opset {OPSET} cannot: "
            f"{', '.join(unknown) or f'{len(node.input)} inputs'}"
        )


_Rewrite = Callable[[onnx.NodeProto, dict[str, onnx.TensorProto]], Iterator[onnx.NodeProto]]


def _as_it_is(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> Iterator[onnx.NodeProto]:
    """Without the younger attributes that say nothing new."""
    silent = _NEW_DEFAULTS.get(node.op_type, {})
    kept = [a for a in node.attribute if helper.get_attribute_value(a) != silent.get(a.name, a)]
    del node.attribute[:]
    node.attribute.extend(kept)
    yield node


def _gelu(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> Iterator[onnx.NodeProto]:
    """x * 0.5 * (1 + erf(x / sqrt(2))): Hendrycks & Gimpel 2016, the exact form."""
    if attribute(node, "approximate", b"none") != b"none":
        raise TargetError(f"Gelu ({node.name}) by tanh: opset {OPSET} gets the exact form alone")
    for name, value in (("root_half", 0.5**0.5), ("one", 1.0), ("half", 0.5)):
        key = f"datk.gelu.{name}"
        constants.setdefault(key, numpy_helper.from_array(np.array(value, np.float32), key))
    x, y = node.input[0], node.output[0]
    steps = (
        ("Mul", (x, "datk.gelu.root_half"), f"{y}.scaled"),
        ("Erf", (f"{y}.scaled",), f"{y}.erf"),
        ("Add", (f"{y}.erf", "datk.gelu.one"), f"{y}.gate"),
        ("Mul", (x, f"{y}.gate"), f"{y}.twice"),
        ("Mul", (f"{y}.twice", "datk.gelu.half"), y),
    )
    for op, inputs, output in steps:
        yield helper.make_node(op, list(inputs), [output], name=f"{node.name}{output.removeprefix(y)}")


def _reduction(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> Iterator[onnx.NodeProto]:
    """Axes as an attribute, as all but ReduceSum had them."""
    if len(node.input) > 1 and node.input[1]:
        axes = constants.get(node.input[1])
        if axes is None:
            raise TargetError(f"{node.op_type} ({node.name}) computes its axes, which opset {OPSET} cannot")
        node.attribute.append(helper.make_attribute("axes", [int(a) for a in values(axes).ravel()]))
    kept = [a for a in node.attribute if a.name != "noop_with_empty_axes"]
    del node.attribute[:]
    node.attribute.extend(kept)
    del node.input[1:]
    yield node


def _split(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> Iterator[onnx.NodeProto]:
    """Equal parts are what opset 17 means by a Split without lengths."""
    kept = [a for a in node.attribute if a.name != "num_outputs"]
    del node.attribute[:]
    node.attribute.extend(kept)
    yield node


_REWRITES: dict[str, _Rewrite] = {"Gelu": _gelu, "Split": _split, **dict.fromkeys(_REDUCTIONS, _reduction)}
