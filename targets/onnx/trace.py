"""Look inside an .onnx artifact: the wanted tensors become outputs of a copy that ONNX Runtime runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from datk.depth.io_spec import Contract
from datk.depth.runner import ImageU8, check_bucket_image
from datk.errors import TargetError
from datk.targets.trace import TracedTensor, depends_on

THREADS = 2
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def open_trace(artifact: Path, contract: Contract) -> OnnxTrace:
    """A Trace of a saved .onnx file. Raises TargetError when it cannot be read."""
    return OnnxTrace(artifact, contract)


class OnnxTrace:
    """Q/DQ is computed as written, in float, as the judge does; int8 values themselves are left out."""

    def __init__(self, artifact: Path, contract: Contract) -> None:
        self.label = "onnxruntime-cpu"
        self.input_name = contract.input.name
        self.output_name = contract.output.name
        self._path = artifact
        self._size = contract.input_size
        self._model = _load(artifact)
        self._types = {v.name: v.type.tensor_type for v in (*self._model.graph.value_info, *self._model.graph.output)}
        made = [
            TracedTensor(
                name=name,
                shape=tuple(d.dim_value for d in self._types[name].shape.dim) if name in self._types else (),
                made_by=node.op_type,
                reads=tuple(n for n in node.input if n),
            )
            for node in self._model.graph.node
            for name in node.output
            if name
        ]
        reached = depends_on(made, self.input_name)
        self.tensors = reached

    def run(self, image: ImageU8, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """As Trace.run; a tensor the file holds as integers is left out."""
        check_bucket_image(image, self._size)
        wanted = [n for n in dict.fromkeys(names) if self._is_float(n)]
        model = onnx.ModelProto.FromString(self._model.SerializeToString())
        del model.graph.value_info[:]
        known = {o.name for o in model.graph.output}
        for name in wanted:
            if name not in known:
                kind = self._types[name].elem_type if name in self._types else TensorProto.FLOAT
                model.graph.output.append(helper.make_tensor_value_info(name, kind, None))
        session = _session(self._path, model)
        found = session.run(wanted, {self.input_name: image[None]})
        return {n: np.asarray(v, dtype=np.float32) for n, v in zip(wanted, found, strict=True)}

    def close(self) -> None:
        """Nothing is held between runs."""

    def _is_float(self, name: str) -> bool:
        return name not in self._types or self._types[name].elem_type in _FLOATS


def _load(artifact: Path) -> onnx.ModelProto:
    from google.protobuf.message import DecodeError

    if not artifact.is_file():
        raise TargetError(f"{artifact}: no such file")
    try:
        model = onnx.load(artifact)
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (DecodeError, onnx.shape_inference.InferenceError) as error:
        raise TargetError(f"{artifact}: cannot be read as ONNX: {error}", hint="export it again") from error


def _session(artifact: Path, model: onnx.ModelProto) -> Any:
    import onnxruntime as ort
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, NotImplemented

    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidArgument, InvalidGraph, NotImplemented) as error:
        raise TargetError(f"{artifact}: ONNX Runtime cannot load it: {error}") from error
