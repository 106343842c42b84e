"""Run an engine on this machine's NVIDIA GPU: TensorRT-RTX, and NVIDIA's own CUDA bindings for memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import Contract, TensorSpec
from datk.depth.runner import DepthMap, ImageU8, check_bucket_image
from datk.errors import DataError, TargetError
from datk.targets.chatter import sdk_chatter_off
from datk.targets.rtx.here import DEVICE, cuda_says

LABEL = "tensorrt-rtx-gpu"
DTYPES = {"uint8": "UINT8", "float32": "FLOAT", "float16": "HALF"}
"""The contract's dtypes as TensorRT names them."""


def open_artifact(artifact: Path, contract: Contract) -> RtxRunner:
    """A runner for a saved engine. Raises DataError when it is missing, TargetError when this GPU cannot take it."""
    return RtxRunner(artifact, contract)


class RtxRunner:
    """A Runner over one engine on one GPU; buffers are allocated once. Not for several threads at a time."""

    label = LABEL

    def __init__(self, artifact: Path, contract: Contract) -> None:
        self.name = artifact.name
        self.input_size = contract.input_size
        self.depth_kind = contract.depth_kind
        self._buffers: list[int] = []
        self._stream: Any = None
        try:
            blob = artifact.read_bytes()
        except OSError as error:
            raise DataError(f"{artifact}: cannot be read ({error.strerror})", hint="export it again") from error
        with sdk_chatter_off():
            import tensorrt_rtx as trt
        from cuda.bindings import runtime as cuda

        self._cuda = cuda
        self._log = _log(trt)
        self._checked(cuda.cudaSetDevice(DEVICE))
        self._runtime = trt.Runtime(self._log)
        _check_valid(trt, self._runtime, blob, artifact, self._log)
        self._engine = self._runtime.deserialize_cuda_engine(blob)
        if self._engine is None:
            raise TargetError(f"{artifact}: TensorRT-RTX cannot load it: {self._log.words()}", hint="export it again")
        _check_edges(self._engine, artifact, contract)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise TargetError(f"{artifact}: TensorRT-RTX cannot prepare it: {self._log.words()}")
        try:
            self._stream = self._checked(cuda.cudaStreamCreate())
            self._input = self._tensor(contract.input)
            self._output = self._tensor(contract.output)
        except TargetError:
            self.close()
            raise
        self._depth = np.empty(contract.output.shape, contract.output.dtype)

    def predict(self, image: ImageU8) -> DepthMap:
        """image: (h, w, 3) uint8 RGB of input_size. Returns (h, w) float32. Raises DataError, TargetError."""
        check_bucket_image(image, self.input_size)
        if self._stream is None:
            raise TargetError(f"{self.name}: the runner is closed")
        kind = self._cuda.cudaMemcpyKind
        pixels = np.ascontiguousarray(image)
        self._copy(self._input, pixels.ctypes.data, pixels.nbytes, kind.cudaMemcpyHostToDevice)
        if not self._context.execute_async_v3(int(self._stream)):
            raise TargetError(f"{self.name}: TensorRT-RTX did not run it: {self._log.words()}")
        self._copy(self._depth.ctypes.data, self._output, self._depth.nbytes, kind.cudaMemcpyDeviceToHost)
        self._checked(self._cuda.cudaStreamSynchronize(self._stream))
        depth: NDArray[np.float32] = self._depth.reshape(self.input_size).astype(np.float32)  # a copy
        return depth

    def close(self) -> None:
        """Free the GPU's memory. Safe to call twice."""
        for pointer in self._buffers:
            self._cuda.cudaFree(pointer)
        self._buffers.clear()
        if self._stream is not None:
            self._cuda.cudaStreamDestroy(self._stream)
        self._stream = self._context = self._engine = None

    def _tensor(self, spec: TensorSpec) -> int:
        """Allocate a tensor's memory and tell the context where it is."""
        size = int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
        pointer = int(self._checked(self._cuda.cudaMalloc(size)))
        self._buffers.append(pointer)
        if not self._context.set_tensor_address(spec.name, pointer):
            raise TargetError(f"{self.name}: TensorRT-RTX did not take the address of {spec.name}: {self._log.words()}")
        return pointer

    def _copy(self, to: int, origin: int, size: int, kind: Any) -> None:
        self._checked(self._cuda.cudaMemcpyAsync(to, origin, size, kind, self._stream))

    def _checked(self, answer: tuple[Any, ...]) -> Any:
        """The value of a CUDA call. Raises TargetError in CUDA's words."""
        status, *values = answer
        if status != self._cuda.cudaError_t.cudaSuccess:
            raise TargetError(f"{self.name}: CUDA refused: {cuda_says(status)}")
        return values[0] if values else None


def _log(trt: Any) -> Any:
    """TensorRT's log: errors are kept for the message, nothing is printed."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

        def words(self) -> str:
            return "; ".join(self.errors) or "it gave no reason"

    return Log()


def _check_valid(trt: Any, runtime: Any, blob: bytes, artifact: Path, log: Any) -> None:
    """Raise TargetError, naming what is against it, when this GPU, driver or TensorRT-RTX cannot take the engine."""
    validity, against = runtime.get_engine_validity(blob)
    if validity != trt.EngineValidity.INVALID:
        return
    named = [name for name, flag in trt.EngineInvalidityDiagnostics.__members__.items() if int(flag) & int(against)]
    raise TargetError(
        f"{artifact}: not an engine for this machine: {', '.join(named) or log.words()}",
        hint="an engine runs with the TensorRT-RTX version that built it; export it again here",
    )


def _check_edges(engine: Any, artifact: Path, contract: Contract) -> None:
    """Raise TargetError unless the engine's tensors are the contract's."""
    found = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = str(engine.get_tensor_dtype(name)).removeprefix("DataType.")
        found.append((name, dtype, tuple(engine.get_tensor_shape(name))))
    expected = [(spec.name, DTYPES[spec.dtype], spec.shape) for spec in (contract.input, contract.output)]
    if found != expected:
        raise TargetError(
            f"{artifact}: the engine has {found}, its contract says {expected}",
            hint="the artifact and its contract.json belong to different exports",
        )
