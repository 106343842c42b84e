"""A stand-in for TensorRT and the CUDA runtime, for tests: NOT NVIDIA's. ONNX Runtime computes on this machine's CPU.

Its "engine" is the ONNX file behind a header; "device memory" is this process's. Environment:
STAND_IN_VERSION  what it calls itself; STAND_IN_FAULT  wrong (answers are noise), hang (the build never ends),
crash (the build dies), large (the engine is larger than any honest one), link (a link in place of the timing cache),
noisy-json (the check's JSON is spoilt at exit), nogpu, layer:TENSOR (that tensor, or the first of that operator, comes
out with its sign turned), fusion:TENSOR (the same unless anything is read out). BUILT lists what each build was asked.
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


STRONG = int(__version__.split(".")[0]) >= 10
NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1) if STRONG else SimpleNamespace(EXPLICIT_BATCH=0)
BuilderFlag = (
    SimpleNamespace() if STRONG else SimpleNamespace(FP16="FP16", INT8="INT8", OBEY_PRECISION_CONSTRAINTS="OBEY")
)
float32 = "float32"
BUILT = []


def nptype(kind):
    return kind


class Layer:
    """One node of the graph."""

    num_outputs = 1
    precision = None

    def __init__(self, node):
        self.name, self.tensor = node.name, SimpleNamespace(name=node.output[0])

    def get_output(self, index):
        return self.tensor

    def set_output_type(self, index, kind):
        self.output_type = kind


class Network:
    def __init__(self, flags):
        self.flags, self.model, self.marked, self.layers = flags, b"", [], None

    def read(self):
        if self.layers is None:
            import onnx

            self.layers = [Layer(node) for node in onnx.load_from_string(self.model).graph.node]
        return self.layers

    @property
    def num_layers(self):
        return len(self.read())

    def get_layer(self, index):
        return self.read()[index]

    def mark_output(self, tensor):
        self.marked.append(tensor.name)


def as_built(network):
    """The graph with what is marked as outputs, and the fault where one is asked for."""
    kind, _, where = FAULT.partition(":")
    if not network.marked and kind not in ("layer", "fusion"):
        return network.model
    import onnx
    from onnx import helper

    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(network.model))
    graph = model.graph
    types = {v.name: v for v in graph.value_info}
    graph.output.extend(types[name] for name in network.marked)
    if kind == "layer" or (kind == "fusion" and not network.marked):
        made = next(i for i, node in enumerate(graph.node) if where in (node.output[0], node.op_type))
        wrong, graph.node[made].output[0] = graph.node[made].output[0], "right"
        graph.node.insert(made + 1, helper.make_node("Neg", ["right"], [wrong]))
    return model.SerializeToString()


class Builder:
    def __init__(self, logger):
        pass

    def create_network(self, flags):
        return Network(flags)

    def create_builder_config(self):
        return Config()

    def build_serialized_network(self, network, config):
        if FAULT == "hang":
            time.sleep(300)
        if FAULT == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        config.cache += b"+timings"
        kept = [layer.name for layer in network.layers or () if layer.precision == float32]
        BUILT.append({"network": network.flags, "flags": config.flags, "float32": kept, "also": network.marked})
        return HEADER + as_built(network) + (b"\0" * 600_000_000 if FAULT == "large" else b"")


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

    def __init__(self):
        self.flags = []

    def set_flag(self, flag):
        self.flags.append(flag)

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
        return Engine(data[len(HEADER) :])


class Engine:
    num_layers = 1

    def __init__(self, model):
        self.context = Context(model)
        self.tensors = {o.name: o for o in self.context.session.get_outputs()}

    def create_execution_context(self):
        return self.context

    def get_tensor_dtype(self, name):
        return {"tensor(float)": np.float32, "tensor(float16)": np.float16}[self.tensors[name].type]

    def get_tensor_shape(self, name):
        return self.tensors[name].shape


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
        (source,) = self.session.get_inputs()
        kind = ctypes.POINTER(ctypes.c_uint8)
        image = np.ctypeslib.as_array(ctypes.cast(self.addresses[source.name], kind), tuple(source.shape))
        outputs = self.session.get_outputs()
        for answer, value in zip(outputs, self.session.run(None, {source.name: image}), strict=True):
            if FAULT == "wrong" and answer is outputs[0]:
                value = np.random.default_rng(0).normal(size=value.shape).astype(np.float32)
            data = np.ascontiguousarray(value)
            ctypes.memmove(self.addresses[answer.name], data.ctypes.data, data.nbytes)
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
