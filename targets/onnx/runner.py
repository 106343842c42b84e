"""Run an .onnx artifact with ONNX Runtime on this machine's CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from datk.depth.io_spec import Contract
from datk.depth.runner import DepthMap, ImageU8, check_bucket_image
from datk.errors import TargetError

MAX_THREADS = 2


def open_artifact(
    artifact: Path, contract: Contract, *, purpose: Literal["judge", "latency"] = "judge", threads: int = MAX_THREADS
) -> OnnxRunner:
    """A runner for an .onnx file. Raises TargetError when it cannot be loaded or is not what contract says.

    purpose "judge": Q/DQ pairs are computed as written, in float, so that every machine judges
    alike (docs/adr/0011). "latency": ONNX Runtime's default optimisation, integer kernels included. threads: at most
    2 intra-op threads.
    """
    return OnnxRunner(artifact, contract, fuse_qdq=purpose == "latency", threads=min(threads, MAX_THREADS))


def open_for_latency(artifact: Path, contract: Contract) -> OnnxRunner:
    """The runner as an app sets it up: default optimisation, integer kernels included."""
    return open_artifact(artifact, contract, purpose="latency")


class OnnxRunner:
    """A Runner over onnxruntime's CPUExecutionProvider."""

    def __init__(self, artifact: Path, contract: Contract, *, fuse_qdq: bool, threads: int) -> None:
        self.name = artifact.name
        quantised = contract.precision == "int8"
        self.label = "onnxruntime-cpu-qdq-in-float" if quantised and not fuse_qdq else "onnxruntime-cpu"
        self.input_size = contract.input_size
        self.depth_kind = contract.depth_kind
        self._input = contract.input.name
        self._output = contract.output.name
        self._session: Any = open_session(artifact, fuse_qdq=fuse_qdq, threads=threads)
        _check_edges(self._session, artifact, contract)

    def predict(self, image: ImageU8) -> DepthMap:
        """image: (h, w, 3) uint8 RGB of input_size. Returns (h, w) float32. Raises DataError."""
        check_bucket_image(image, self.input_size)
        (depth,) = self._session.run([self._output], {self._input: image[None]})  # (1, h, w)
        return np.asarray(depth[0], dtype=np.float32)

    def close(self) -> None:
        """Free the session. Safe to call twice."""
        self._session = None


def open_session(
    artifact: Path, *, fuse_qdq: bool, threads: int, profile: str | None = None, optimised: Path | None = None
) -> Any:
    """An InferenceSession. profile: prefix of the file its profiler writes. optimised: where the graph that runs is
    written to. Raises TargetError."""
    import onnxruntime as ort
    from onnxruntime.capi.onnxruntime_pybind11_state import (
        Fail,
        InvalidArgument,
        InvalidGraph,
        InvalidProtobuf,
        NotImplemented,
    )

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")  # else its threads slow who is timed next
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    if not fuse_qdq:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if not artifact.is_file():
        raise TargetError(f"{artifact}: no such file")
    try:
        return ort.InferenceSession(str(artifact), options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NotImplemented) as error:
        raise TargetError(f"{artifact}: ONNX Runtime cannot load it: {error}") from error


def _check_edges(session: Any, artifact: Path, contract: Contract) -> None:
    """Raise TargetError unless the file's input and output are the contract's."""
    types = {"uint8": "tensor(uint8)", "float32": "tensor(float)", "float16": "tensor(float16)"}
    for tensors, spec in ((session.get_inputs(), contract.input), (session.get_outputs(), contract.output)):
        found = [(t.name, tuple(t.shape), t.type) for t in tensors]
        if found != [(spec.name, spec.shape, types.get(spec.dtype))]:
            raise TargetError(
                f"{artifact}: expected one tensor {spec.name} {spec.shape} {spec.dtype}, found {found}",
                hint="the artifact and its contract.json belong to different exports",
            )
