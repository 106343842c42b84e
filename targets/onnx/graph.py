"""Reading and rewriting ONNX graphs: the few lookups every pass needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


@dataclass(frozen=True)
class Edges:
    """Who makes and who reads each tensor of a graph, as it was when edges_of looked."""

    initializers: dict[str, onnx.TensorProto]
    producers: dict[str, onnx.NodeProto]
    readers: dict[str, list[onnx.NodeProto]]
    outputs: frozenset[str]

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The node that alone reads a tensor which is no graph output, else None."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def produced_by(self, name: str, op_type: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, if it is of op_type."""
        node = self.producers.get(name)
        return node if node is not None and node.op_type == op_type else None


def edges_of(graph: onnx.GraphProto) -> Edges:
    """Index a graph without subgraphs."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return Edges(
        initializers={i.name: i for i in graph.initializer},
        producers={name: node for node in graph.node for name in node.output},
        readers=readers,
        outputs=frozenset(o.name for o in graph.output),
    )


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """Value of a node's attribute, or default."""
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default


def set_attribute(node: onnx.NodeProto, name: str, value: int) -> None:
    """Set an integer attribute, replacing one of that name."""
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])


def read_input(node: onnx.NodeProto, old: str, new: str) -> None:
    """Make node read tensor new wherever it read old."""
    for index, name in enumerate(node.input):
        if name == old:
            node.input[index] = new


def values(initializer: onnx.TensorProto) -> NDArray[np.generic]:
    """An initialiser as an array."""
    return np.asarray(numpy_helper.to_array(initializer))


def set_values(initializer: onnx.TensorProto, array: NDArray[np.generic]) -> None:
    """Replace an initialiser's type, shape and content; the name stays."""
    initializer.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), initializer.name))


def weight_layers(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, str, str]]:
    """(node, data tensor, weight tensor) of every convolution and matrix product with a constant weight.

    A product of two activations (attention) has no constant side and is left out.
    """
    edges = edges_of(graph)

    def constant(name: str) -> bool:
        while name not in edges.initializers:
            node = edges.producers.get(name)
            if node is None or node.op_type not in ("QuantizeLinear", "DequantizeLinear", "Transpose"):
                return False
            name = node.input[0]
        return True

    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
            if constant(node.input[1]):
                yield node, node.input[0], node.input[1]
            elif constant(node.input[0]):
                yield node, node.input[1], node.input[0]


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove initialisers nothing reads."""
    used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    kept = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
