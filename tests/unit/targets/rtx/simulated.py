"""simulated: a stand-in for tensorrt_rtx and NVIDIA's CUDA bindings. No GPU, nothing of NVIDIA's; control flow only.

What is put on a stream is done when the stream is synchronised and not before, as on a GPU. Memory is host memory.
"""

from __future__ import annotations

import ctypes
import enum
import json
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

CudaError = enum.IntEnum("cudaError_t", {"cudaSuccess": 0, "cudaErrorMemoryAllocation": 2})


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING = range(3)


class EngineValidity(enum.IntEnum):
    VALID, SUBOPTIMAL, INVALID = range(3)


class EngineInvalidityDiagnostics(enum.IntFlag):
    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2


class Gpu:
    """One simulated GPU; an "engine" is JSON. refuses: name of a CUDA call that fails."""

    def __init__(self, *, count: int = 1, capability: tuple[int, int] = (8, 9), refuses: str = "") -> None:
        self.count, self.capability, self.refuses = count, capability, refuses
        self.memory: dict[int, ctypes.Array] = {}
        self.queue: list = []
        self.streams = 0
        self.launches = True

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put both stand-ins where the real modules would be imported from."""
        runtime = ModuleType("cuda.bindings.runtime")
        for name in dir(self):
            if name.startswith("cuda"):
                setattr(runtime, name, self._call(name))
        runtime.cudaError_t = CudaError
        runtime.cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
        bindings, cuda = ModuleType("cuda.bindings"), ModuleType("cuda")
        bindings.runtime = runtime
        for name, module in (("cuda", cuda), ("cuda.bindings", bindings), ("cuda.bindings.runtime", runtime)):
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", self._tensorrt())

    def _call(self, name):
        def call(*arguments):
            if name == self.refuses:
                return (CudaError.cudaErrorMemoryAllocation, None)
            return (CudaError.cudaSuccess, *getattr(self, name)(*arguments))

        return call

    def cudaGetDeviceCount(self):  # noqa: N802
        return (self.count,)

    def cudaGetDeviceProperties(self, device):  # noqa: N802
        major, minor = self.capability
        return (SimpleNamespace(name=b"Simulated GPU", major=major, minor=minor),)

    def cudaGetErrorString(self, status):  # noqa: N802
        return (b"out of memory",)

    def cudaSetDevice(self, device):  # noqa: N802
        return ()

    def cudaMalloc(self, size):  # noqa: N802
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return (ctypes.addressof(block),)

    def cudaFree(self, pointer):  # noqa: N802
        del self.memory[pointer]
        return ()

    def cudaStreamCreate(self):  # noqa: N802
        self.streams += 1
        return (7,)

    def cudaStreamDestroy(self, stream):  # noqa: N802
        self.streams -= 1
        return ()

    def cudaMemcpyAsync(self, to, origin, size, kind, stream):  # noqa: N802
        self.queue.append(lambda: ctypes.memmove(to, origin, size))
        return ()

    def cudaStreamSynchronize(self, stream):  # noqa: N802
        for work in self.queue:
            work()
        self.queue.clear()
        return ()

    def _tensorrt(self) -> ModuleType:
        gpu = self

        class Runtime:
            def __init__(self, log) -> None:
                self.log = log

            def get_engine_validity(self, blob):
                against = json.loads(blob).get("against", 0)
                return (EngineValidity.INVALID if against else EngineValidity.VALID, against)

            def deserialize_cuda_engine(self, blob):
                told = json.loads(blob)
                if "broken" in told:
                    self.log.log(Severity.ERROR, told["broken"])
                    return None
                return Engine(gpu, told["tensors"])

        module = ModuleType("tensorrt_rtx")
        module.__spec__ = ModuleSpec("tensorrt_rtx", None)
        module.ILogger = type("ILogger", (), {"Severity": Severity, "__init__": lambda self: None})
        module.Runtime = Runtime
        module.EngineValidity, module.EngineInvalidityDiagnostics = EngineValidity, EngineInvalidityDiagnostics
        module.ComputeCapability = SimpleNamespace(__members__={"NONE": 0, "CURRENT": 1, "SM86": 86, "SM89": 89})
        return module


class Engine:
    """tensors: [[name, dtype, shape], ...], as TensorRT names dtypes."""

    def __init__(self, gpu: Gpu, tensors: list) -> None:
        self.gpu, self.tensors = gpu, tensors
        self.num_io_tensors = len(tensors)

    def get_tensor_name(self, index):
        return self.tensors[index][0]

    def get_tensor_dtype(self, name):
        return f"DataType.{next(t[1] for t in self.tensors if t[0] == name)}"

    def get_tensor_shape(self, name):
        return next(t[2] for t in self.tensors if t[0] == name)

    def create_execution_context(self):
        return Context(self)


class Context:
    """Computes 2 * red + blue, so that swapped colours and swapped sides show."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.addresses = engine, {}

    def set_tensor_address(self, name, pointer):
        self.addresses[name] = pointer
        return True

    def execute_async_v3(self, stream):
        (source, _, shape), (result, _, _) = self.engine.tensors
        count = int(np.prod(shape))

        def work() -> None:
            pixels = np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(self.addresses[source])).reshape(shape)
            depth = (2.0 * pixels[..., 0] + pixels[..., 2]).astype(np.float32)
            ctypes.memmove(self.addresses[result], depth.ctypes.data, depth.nbytes)

        self.engine.gpu.queue.append(work)
        return self.engine.gpu.launches
