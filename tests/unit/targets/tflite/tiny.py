"""Tiny .tflite files of a few operators, written with LiteRT's own schema."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int8": 9}


@dataclass(frozen=True)
class T:
    """A tensor by name; constant when it has data."""

    name: str
    shape: tuple[int, ...]
    kind: str = "float32"
    data: Any = None
    scale: float | None = None


@dataclass(frozen=True)
class Op:
    kind: str
    reads: tuple[T, ...]
    makes: tuple[T, ...]
    options: tuple[str, dict[str, Any]] | None = None
    """Name of the schema's options, without `Options`, and its fields."""


def ints(name: str, *values: int, shape: tuple[int, ...] | None = None) -> T:
    """A constant of int32."""
    return T(name, shape or (len(values),), "int32", np.array(values, np.int32))


def write(path: Path, *ops: Op) -> Path:
    """A file whose input is what the first operator reads first and whose output is what the last one makes."""
    model = schema.ModelT(version=3, description=b"tiny", buffers=[schema.BufferT(data=None)], operatorCodes=[])
    graph = schema.SubGraphT(name=b"main", tensors=[], operators=[])
    index: dict[str, int] = {}

    def number(tensor: T) -> int:
        if tensor.name not in index:
            buffer = 0
            if tensor.data is not None:
                model.buffers.append(schema.BufferT(data=np.frombuffer(np.asarray(tensor.data).tobytes(), np.uint8)))
                buffer = len(model.buffers) - 1
            made = schema.TensorT(shape=list(tensor.shape), type=TYPES[tensor.kind], buffer=buffer)
            made.name = tensor.name.encode()
            if tensor.scale is not None:
                made.quantization = schema.QuantizationParametersT(scale=[tensor.scale], zeroPoint=[0])
            index[tensor.name] = len(graph.tensors)
            graph.tensors.append(made)
        return index[tensor.name]

    for op in ops:
        code = getattr(schema.BuiltinOperator, op.kind)
        model.operatorCodes.append(
            schema.OperatorCodeT(
                builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=1,
                customCode=b"Mine" if op.kind == "CUSTOM" else None,
            )
        )  # fmt: skip
        made = schema.OperatorT(opcodeIndex=len(model.operatorCodes) - 1)
        made.inputs, made.outputs = [number(t) for t in op.reads], [number(t) for t in op.makes]
        if op.options is not None:
            name, fields = op.options
            made.builtinOptionsType = getattr(schema.BuiltinOptions, f"{name}Options")
            made.builtinOptions = getattr(schema, f"{name}OptionsT")(**fields)
        graph.operators.append(made)
    graph.inputs, graph.outputs = [index[ops[0].reads[0].name]], [index[ops[-1].makes[0].name]]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
