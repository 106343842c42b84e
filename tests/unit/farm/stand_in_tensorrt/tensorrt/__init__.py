"""A stand-in for TensorRT and the CUDA runtime, for tests: NOT NVIDIA's. ONNX Runtime computes on this machine's CPU.

Its "engine" is the ONNX file behind a header; "device memory" is this process's. Environment:
STAND_IN_VERSION  what it calls itself; STAND_IN_FAULT  wrong (answers are noise), hang (the build never ends),
crash (the build dies), large (the engine is larger than any honest one), link (a link in place of the timing cache),
noisy-json (the check's JSON is spoilt at exit), nogpu.
"""

import atexit
import ctypes
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

__version__ = os.environ.get("STAND_IN_VERSION", "10.7.0")
FAULT = os.environ.get("STAND_IN_FAULT", "")
HEADER = b"stand-in engine, not TensorRT's\n"


class Logger:
    WARNING = 1

    def __init__(self, level):
        pass


NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)


class Builder:
    def __init__(self, logger):
        pass

    def create_network(self, flags):
        return SimpleNamespace(model=b"")

    def create_builder_config(self):
        return Config()

    def build_serialized_network(self, network, config):
        if FAULT == "hang":
            time.sleep(300)
        if FAULT == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        config.cache += b"+timings"
        return HEADER + network.model + (b"\0" * 600_000_000 if FAULT == "large" else b"")


class OnnxParser:
    num_errors = 1

    def __init__(self, network, logger):
        self.network = network

    def parse(self, data):
        self.network.model = data
        return FAULT != "refuse"

    def get_error(self, index):
        return "In node 7: the stand-in refuses \x1b[31mit"


class Config:
    cache = b"stand-in"

    def create_timing_cache(self, blob):
        return blob

    def set_timing_cache(self, blob, ignore_mismatch):
        self.cache = blob or self.cache
        return True

    def get_timing_cache(self):
        return SimpleNamespace(serialize=lambda: self.cache)


class Runtime:
    def __init__(self, logger):
        pass

    def deserialize_cuda_engine(self, data):
        return SimpleNamespace(create_execution_context=lambda: Context(data[len(HEADER) :]), num_layers=1)


class Context:
    def __init__(self, model):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.addresses = {}

    def set_tensor_address(self, name, pointer):
        self.addresses[name] = pointer

    def execute_async_v3(self, stream):
        (source,), (answer,) = self.session.get_inputs(), self.session.get_outputs()
        kind = ctypes.POINTER(ctypes.c_uint8)
        image = np.ctypeslib.as_array(ctypes.cast(self.addresses[source.name], kind), tuple(source.shape))
        (depth,) = self.session.run(None, {source.name: image})
        if FAULT == "wrong":
            depth = np.random.default_rng(0).normal(size=depth.shape)
        kind = ctypes.POINTER(ctypes.c_float)
        np.ctypeslib.as_array(ctypes.cast(self.addresses[answer.name], kind), tuple(answer.shape))[:] = depth
        return True


class Cudart:
    """The calls of the CUDA runtime that the check makes, on host memory."""

    def __init__(self):
        self.kept = []

    def cudaGetDeviceCount(self, count):  # noqa: N802 - CUDA's own names
        count._obj.value = 0 if FAULT == "nogpu" else 1
        return 0

    def cudaMalloc(self, pointer, size):  # noqa: N802
        self.kept.append(ctypes.create_string_buffer(size.value))
        pointer._obj.value = ctypes.addressof(self.kept[-1])
        return 0

    def cudaMemcpy(self, target, source, size, direction):  # noqa: N802
        ctypes.memmove(target, source, size.value if hasattr(size, "value") else size)
        return 0

    def cudaStreamCreate(self, handle):  # noqa: N802
        handle._obj.value = 1
        return 0

    def cudaStreamSynchronize(self, stream):  # noqa: N802
        return 0

    def cudaFree(self, pointer):  # noqa: N802
        return 0


_load = ctypes.CDLL


def _cdll(name, *arguments, **more):
    return Cudart() if str(name).startswith("libcudart") else _load(name, *arguments, **more)


ctypes.CDLL = _cdll


def _spoil():
    for path in Path.cwd().glob("*.timing.cache"):
        path.unlink()
        path.symlink_to("/etc/passwd")


if FAULT == "link":
    # After the agent has hashed what the script left, as a hostile device would.
    atexit.register(_spoil)
