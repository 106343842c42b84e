"""Look inside a .tflite artifact: the wanted tensors become outputs of a copy that LiteRT runs.

Delegates keep their intermediate tensors to themselves; an output they have to hand over. So the same kernels run
that run in the artifact, which `experimental_preserve_all_tensors` with plain kernels would not show.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import Contract
from datk.depth.runner import ImageU8, check_bucket_image
from datk.errors import DataError, TargetError
from datk.targets.tflite.flatbuffer import parse, serialise
from datk.targets.tflite.quiet import native_output_to
from datk.targets.tflite.runner import default_threads
from datk.targets.trace import TracedTensor, depends_on


def open_trace(artifact: Path, contract: Contract) -> LiteRtTrace:
    """A Trace of a saved .tflite file (main subgraph). Raises TargetError or DataError when it cannot be read."""
    return LiteRtTrace(artifact, contract)


class LiteRtTrace:
    """int8 values come back in real numbers, by the scale and zero point the file gives them."""

    label = "litert-cpu"

    def __init__(self, artifact: Path, contract: Contract) -> None:
        from ai_edge_litert import schema_py_generated as schema

        if not artifact.is_file():
            raise DataError(f"{artifact}: no such file")
        self._path = artifact
        self._size = contract.input_size
        self._model = parse(artifact.read_bytes())
        graph = self._model.subgraphs[0]
        operators = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
        self._numeric = {vars(schema.TensorType)[k] for k in ("FLOAT32", "FLOAT16", "INT8", "UINT8")}
        self._index: dict[str, int] = {}
        names = [_name(tensor, index) for index, tensor in enumerate(graph.tensors)]
        made = []
        for op in graph.operators:
            code = self._model.operatorCodes[op.opcodeIndex]
            kind = str(operators[max(code.builtinCode, code.deprecatedBuiltinCode)])
            for index in op.outputs:
                self._index[names[index]] = int(index)
                shape = tuple(int(side) for side in graph.tensors[index].shape)
                reads = tuple(names[i] for i in op.inputs if i >= 0)
                made.append(TracedTensor(names[index], shape, kind, reads, _step(graph.tensors[index])))
        self.input_name = names[graph.inputs[0]]
        self.output_name = names[graph.outputs[0]]
        self.tensors = depends_on(made, self.input_name)

    def run(self, image: ImageU8, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """As Trace.run; a tensor of another type than float or 8-bit integers is left out."""
        check_bucket_image(image, self._size)
        tensors = self._model.subgraphs[0].tensors
        wanted = [n for n in dict.fromkeys(names) if tensors[self._index[n]].type in self._numeric]
        model = copy.copy(self._model)
        model.subgraphs = [copy.copy(self._model.subgraphs[0])]
        own = [int(i) for i in model.subgraphs[0].outputs]
        model.subgraphs[0].outputs = own + [self._index[n] for n in wanted if self._index[n] not in own]
        model.signatureDefs = []
        interpreter = _interpreter(self._path, serialise(model))
        interpreter.set_tensor(int(model.subgraphs[0].inputs[0]), np.ascontiguousarray(image)[None])
        interpreter.invoke()
        return {n: _real(interpreter.get_tensor(self._index[n]), tensors[self._index[n]]) for n in wanted}

    def close(self) -> None:
        """Nothing is held between runs."""


def _name(tensor: Any, index: int) -> str:
    """The tensor's name, with its number: names need not be unique in the format."""
    return f"{index}:{(tensor.name or b'').decode(errors='replace')}"


def _step(tensor: Any) -> float:
    quantisation = tensor.quantization
    return 0.0 if quantisation is None or quantisation.scale is None else float(quantisation.scale[0])


def _real(values: NDArray[Any], tensor: Any) -> NDArray[np.float32]:
    quantisation = tensor.quantization
    if values.dtype.kind not in "iu" or quantisation is None or quantisation.scale is None:
        return values.astype(np.float32)
    zero = 0 if quantisation.zeroPoint is None else quantisation.zeroPoint[0]
    return ((values.astype(np.float32) - np.float32(zero)) * np.float32(quantisation.scale[0])).astype(np.float32)


def _interpreter(artifact: Path, content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        with native_output_to(None):
            interpreter = Interpreter(model_content=content, num_threads=default_threads())
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise TargetError(f"{artifact}: LiteRT cannot load it: {error}", hint="export it again") from error
    return interpreter
