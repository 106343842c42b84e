"""Tensors of one and two dimensions in the middle of a .tflite file get their axes of length 1 back.

LiteRT's converter writes LayerNorm's mean of (1, tokens, channels) as (tokens,) and flattens linears to (tokens,
channels). A CPU does not mind; the GPU delegate reads the first of two dimensions as the batch, and so refuses an add
of (1, n, c) and (n, c) or reduces another axis (rules `tflite-gpu-axis`, `tflite-gpu-argument`). Values stay the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from datk.targets.tflite.flatbuffer import parse, serialise

_REDUCTIONS = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")
_ELEMENTWISE = frozenset(
    (
        *("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "RSQRT", "SQRT", "SQUARE", "ABS"),
        *("NEG", "EXP", "TANH", "GELU", "RELU", "LOGISTIC", "QUANTIZE", "DEQUANTIZE"),
    )
)

Shape = tuple[int, ...]


def keep_axes(content: bytes) -> bytes:
    """The converter's bytes with reductions that keep their axis and linears that keep theirs, where all readers allow.

    A tensor that something else than an elementwise operator, a linear or a reshape reads stays as it is, and all that
    is computed with it. Raises TargetError when content is no .tflite file.
    """
    model = parse(content)
    graph = _Graph(model)
    kept = graph.kept()
    for index, shape in kept.items():
        graph.tensors[index].shape = list(shape)
        graph.tensors[index].shapeSignature = None
    for op in graph.operators:
        if int(op.outputs[0]) in kept:
            graph.make_keep(op, kept[int(op.outputs[0])])
    graph.drop_empty_reshapes()
    return serialise(model)


class _Graph:
    def __init__(self, model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema, self.model = schema, model
        self.graph = model.subgraphs[0]
        self.tensors, self.operators = self.graph.tensors, self.graph.operators
        self._names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
        self.edges = {int(i) for i in (*self.graph.inputs, *self.graph.outputs)}

    def kind(self, op: Any) -> str:
        code = self.model.operatorCodes[op.opcodeIndex]
        return str(self._names[max(code.builtinCode, code.deprecatedBuiltinCode)])

    def shape(self, index: int) -> Shape:
        shape = self.tensors[index].shape
        return () if shape is None else tuple(int(side) for side in shape)

    def constant(self, index: int) -> bool:
        return self.model.buffers[self.tensors[index].buffer].data is not None

    def running(self, op: Any) -> list[int]:
        return [int(i) for i in op.inputs if i >= 0 and not self.constant(int(i))]

    def integers(self, index: int) -> list[int]:
        data = self.model.buffers[self.tensors[index].buffer].data
        return [int(v) for v in np.frombuffer(np.asarray(data, np.uint8).tobytes(), np.int32)]

    def kept(self) -> dict[int, Shape]:
        """Tensor -> its shape of three dimensions; only of groups in which every operator allows it."""
        wanted: dict[int, Shape] = {}
        for op in self.operators:
            if len(op.outputs) == 1 and (shape := self._wanted(op, wanted)) is not None:
                wanted[int(op.outputs[0])] = shape
        group = {index: index for index in wanted}

        def root(index: int) -> int:
            while group[index] != index:
                index = group[index]
            return index

        refused = set()
        for op in self.operators:
            together = [i for i in (*self.running(op), *(int(o) for o in op.outputs)) if i in wanted]
            if self.kind(op) == "RESHAPE":  # it takes any shape: what it reads and makes are strangers
                continue
            for index in together[1:]:
                group[root(index)] = root(together[0])
            if together and not self._allows(op, wanted):
                refused |= set(together)
        bad = {root(index) for index in refused}
        return {index: shape for index, shape in wanted.items() if root(index) not in bad}

    def _wanted(self, op: Any, wanted: dict[int, Shape]) -> Shape | None:
        """Shape of three dimensions for an output of one or two, or None."""
        out = int(op.outputs[0])
        after, kind = self.shape(out), self.kind(op)
        if out in self.edges or len(after) not in (1, 2) or not self.running(op):
            return None
        before = self.shape(int(op.inputs[0]))
        if kind in _REDUCTIONS and len(before) == 3 and before[0] == 1 and self.constant(int(op.inputs[1])):
            axes = {axis % 3 for axis in self.integers(int(op.inputs[1]))}
            return tuple(1 if i in axes else side for i, side in enumerate(before))
        if (kind == "RESHAPE" and len(before) > 2) or kind == "FULLY_CONNECTED":
            return (1, *after) if len(after) == 2 else None
        if kind in _ELEMENTWISE and any(i in wanted for i in self.running(op)):
            shape = self._broadcast(op, wanted)
            return shape if shape is not None and np.prod(shape) == np.prod(after) else None
        return None

    def _broadcast(self, op: Any, wanted: dict[int, Shape]) -> Shape | None:
        try:
            return tuple(np.broadcast_shapes(*(wanted.get(int(i), self.shape(int(i))) for i in op.inputs if i >= 0)))
        except ValueError:
            return None

    def _allows(self, op: Any, wanted: dict[int, Shape]) -> bool:
        kind, out = self.kind(op), int(op.outputs[0])
        if kind in _ELEMENTWISE:
            return self._broadcast(op, wanted) == wanted.get(out, self.shape(out))
        if kind == "FULLY_CONNECTED":
            data = int(op.inputs[0])
            three = len(wanted.get(data, self.shape(data))) == 3
            return (three and out in wanted) or (out not in wanted and not op.builtinOptions.keepNumDims)
        return kind in _REDUCTIONS and int(op.inputs[0]) not in wanted

    def make_keep(self, op: Any, shape: Shape) -> None:
        """Let op make a tensor of that shape."""
        kind = self.kind(op)
        if kind in _REDUCTIONS:
            before = self.shape(int(op.inputs[0]))
            axes = [i for i, side in enumerate(shape) if side != before[i]] or [len(shape) - 1]
            op.inputs = [int(op.inputs[0]), self._add_integers(axes)]
            op.builtinOptions.keepDims = True
        elif kind == "FULLY_CONNECTED":
            op.builtinOptions.keepNumDims = True
        elif kind == "RESHAPE":
            op.inputs = [int(op.inputs[0]), self._add_integers(list(shape))]
            if op.builtinOptions is not None:
                op.builtinOptions.newShape = list(shape)

    def _add_integers(self, numbers: list[int]) -> int:
        data = np.frombuffer(np.array(numbers, np.int32).tobytes(), np.uint8)
        self.model.buffers.append(self.schema.BufferT(data=data))
        tensor = self.schema.TensorT(shape=[len(numbers)], type=self.schema.TensorType.INT32)
        tensor.buffer, tensor.name = len(self.model.buffers) - 1, f"kept.{len(self.tensors)}".encode()
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def drop_empty_reshapes(self) -> None:
        """Remove reshapes to the shape that a tensor has, but for one that makes the file's output."""
        instead: dict[int, int] = {}
        left = []
        for op in self.operators:
            op.inputs = [instead.get(int(i), int(i)) for i in op.inputs]
            source, out = int(op.inputs[0]), int(op.outputs[0])
            if self.kind(op) == "RESHAPE" and self.shape(source) == self.shape(out) and out not in self.edges:
                instead[out] = source
            else:
                left.append(op)
        self.graph.operators = left
        self.operators = left
