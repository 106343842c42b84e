"""Small rewrites that compilers need and that do not change the function."""

from __future__ import annotations

import onnx

from datk.targets.onnx.graph import attribute, edges_of, read_input, set_attribute, set_values, values


def cast_before_transpose(graph: onnx.GraphProto) -> None:
    """image -> Transpose -> Cast becomes image -> Cast -> Transpose: TensorRT takes uint8 only into a Cast."""
    edges = edges_of(graph)
    image = graph.input[0].name
    transpose = edges.only_reader(image)
    if transpose is None or transpose.op_type != "Transpose":
        return
    cast = edges.only_reader(transpose.output[0])
    if cast is None or cast.op_type != "Cast":
        return
    between, result = transpose.output[0], cast.output[0]
    cast.input[0], cast.output[0] = image, between
    transpose.input[0], transpose.output[0] = between, result
    nodes = list(graph.node)
    first, second = nodes.index(transpose), nodes.index(cast)
    nodes[first], nodes[second] = nodes[second], nodes[first]
    _replace_nodes(graph, nodes)


def transpose_stored_weights(graph: onnx.GraphProto) -> int:
    """Store int8 matrices the way MatMul reads them; returns how many.

    DequantizeLinear(W, axis 0) -> Transpose -> MatMul becomes DequantizeLinear(W^T, axis 1) -> MatMul,
    the pattern runtimes fuse into an integer product.
    """
    edges = edges_of(graph)
    gone: list[onnx.NodeProto] = []
    for transpose in graph.node:
        if transpose.op_type != "Transpose":
            continue
        dequantize = edges.produced_by(transpose.input[0], "DequantizeLinear")
        if dequantize is None or edges.only_reader(dequantize.output[0]) is None:
            continue
        stored = edges.initializers.get(dequantize.input[0])
        if stored is None or len(edges.readers[stored.name]) != 1:
            continue
        perm = attribute(transpose, "perm")
        assert isinstance(perm, list)
        set_values(stored, values(stored).transpose(perm))
        axis = attribute(dequantize, "axis", 1)
        assert isinstance(axis, int)
        if len(edges.initializers[dequantize.input[1]].dims) > 0:
            set_attribute(dequantize, "axis", perm.index(axis))
        for reader in edges.readers[transpose.output[0]]:
            read_input(reader, transpose.output[0], dequantize.output[0])
        gone.append(transpose)
    _replace_nodes(graph, [node for node in graph.node if node not in gone])
    return len(gone)


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
