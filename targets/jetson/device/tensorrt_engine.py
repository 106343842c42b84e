"""An engine of TensorRT: built of an ONNX file, loaded, fed and read, through TensorRT's Python package and ctypes.

Needs NumPy, and TensorRT as the module handed in; Python 3.8 or newer. Lies beside build_and_check.py, which uses it.
"""

# Runs on devices, unpackaged and with Python 3.8: checked by its own tests rather than by strict typing.
# mypy: disallow_untyped_defs=False, disallow_untyped_calls=False, check_untyped_defs=False

import ctypes
import json

import numpy as np


class LacksError(Exception):
    """Something this machine does not have."""


class Cuda:
    """The five calls of the CUDA runtime this script needs, through ctypes."""

    TO_DEVICE, TO_HOST = 1, 2

    def __init__(self):
        self.library = self._load()
        count = ctypes.c_int(0)
        status = self.library.cudaGetDeviceCount(ctypes.byref(count))
        if status != 0 or count.value < 1:
            raise LacksError(f"no usable CUDA device (cudaGetDeviceCount: status {status}, {count.value} devices)")

    @staticmethod
    def _load():
        names = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")
        for name in names:
            try:
                return ctypes.CDLL(name)
            except OSError:
                continue
        raise LacksError(f"the CUDA runtime library was not found (tried {', '.join(names)})")

    def call(self, name, *arguments):
        status = getattr(self.library, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name} failed with CUDA status {status}")

    def allocate(self, size):
        pointer = ctypes.c_void_p()
        self.call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(size))
        return pointer

    def copy(self, target, source, size, direction):
        self.call("cudaMemcpy", target, source, ctypes.c_size_t(size), ctypes.c_int(direction))

    def stream(self):
        handle = ctypes.c_void_p()
        self.call("cudaStreamCreate", ctypes.byref(handle))
        return handle

    def wait(self, stream):
        self.call("cudaStreamSynchronize", stream)

    def free(self, pointer):
        self.call("cudaFree", pointer)


def build_engine(trt, row, model_path, cache_path, also=(), detailed=False):
    """Parse model_path into a network, typed as the plan's row says, and build it.

    cache_path: timings of an earlier build are read from it and written back: the next build is faster and
    chooses the same kernels. One of another TensorRT or GPU does not fit and is replaced. also: tensors to be outputs
    too. detailed: the engine keeps what its inspector tells of each layer. Returns the serialised engine and those of
    `also` that the network does not have.
    """
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    flags = trt.NetworkDefinitionCreationFlag
    kind = getattr(flags, "STRONGLY_TYPED", None) if row["strongly_typed"] else flags.EXPLICIT_BATCH
    network = builder.create_network(0 if kind is None else 1 << int(kind))  # TensorRT 11 knows strong types alone
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model_path.read_bytes()):
        errors = "\n".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise RuntimeError(f"the parser refused {model_path.name}:\n{errors}")
    config = builder.create_builder_config()
    for name in row["flags"]:
        config.set_flag(getattr(trt.BuilderFlag, name))
    keep_float32(trt, network, config, row["float32_nodes"])
    if detailed:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    absent = mark_outputs(network, also)
    earlier = cache_path.read_bytes() if cache_path.is_file() else b""
    if not config.set_timing_cache(config.create_timing_cache(earlier), False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise RuntimeError("TensorRT built no engine; its log above says why")
    cache_path.write_bytes(bytes(config.get_timing_cache().serialize()))
    return bytes(engine), absent


def keep_float32(trt, network, config, names):
    """Weakly typed networks alone: these nodes (LayerNorm, which overflows in half) compute in float32."""
    if not names:
        return
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.name in names:
            layer.precision = trt.float32
            layer.set_output_type(0, trt.float32)


def mark_outputs(network, names):
    """Make the named tensors outputs of the network; returns the names it does not have."""
    wanted = set(names)
    for index in range(network.num_layers if wanted else 0):
        layer = network.get_layer(index)
        for number in range(layer.num_outputs):
            tensor = layer.get_output(number)
            if tensor is not None and tensor.name in wanted:
                network.mark_output(tensor)
                wanted.discard(tensor.name)
    return sorted(wanted)


class Engine:
    """A loaded engine with one input and one output on the device, and outputs `also` where it was built with them."""

    def __init__(self, trt, cuda, serialized, plan, also=()):
        self.cuda = cuda
        self.runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self.engine = self.runtime.deserialize_cuda_engine(serialized)
        if self.engine is None:
            raise RuntimeError("the engine file does not load here: built by another TensorRT or for another GPU")
        self.context = self.engine.create_execution_context()
        self.output = np.empty(plan["output"]["shape"], dtype=plan["output"]["dtype"])
        input_bytes = int(np.prod(plan["input"]["shape"])) * np.dtype(plan["input"]["dtype"]).itemsize
        self.device_input = cuda.allocate(input_bytes)
        self.device_output = cuda.allocate(self.output.nbytes)
        self.stream = cuda.stream()
        self.context.set_tensor_address(plan["input"]["name"], self.device_input.value)
        self.context.set_tensor_address(plan["output"]["name"], self.device_output.value)
        self.more = {}
        for name in also:
            kind = trt.nptype(self.engine.get_tensor_dtype(name))
            array = np.empty(tuple(self.engine.get_tensor_shape(name)), dtype=kind)
            self.more[name] = (array, cuda.allocate(array.nbytes))
            self.context.set_tensor_address(name, self.more[name][1].value)

    def load(self, image):
        image = np.ascontiguousarray(image[None])
        self.cuda.copy(self.device_input, image.ctypes.data_as(ctypes.c_void_p), image.nbytes, Cuda.TO_DEVICE)

    def run(self):
        if not self.context.execute_async_v3(self.stream.value):
            raise RuntimeError("the engine refused to run")
        self.cuda.wait(self.stream)

    def depth(self):
        pointer = self.output.ctypes.data_as(ctypes.c_void_p)
        self.cuda.copy(pointer, self.device_output, self.output.nbytes, Cuda.TO_HOST)
        return self.output[0].astype(np.float64)

    def tensors(self):
        """Values of the outputs `also`, by name."""
        for array, pointer in self.more.values():
            self.cuda.copy(array.ctypes.data_as(ctypes.c_void_p), pointer, array.nbytes, Cuda.TO_HOST)
        return {name: array for name, (array, _) in self.more.items()}

    def inspected(self, trt, path):
        """Write TensorRT's own account of the engine, layer by layer, as JSON; returns how many layers it tells of."""
        text = self.engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
        path.write_text(text)
        return {"file": path.name, "layers": len(json.loads(text)["Layers"])}

    def close(self):
        for _, pointer in self.more.values():
            self.cuda.free(pointer)
        self.cuda.free(self.device_input)
        self.cuda.free(self.device_output)
