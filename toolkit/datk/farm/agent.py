#!/usr/bin/env python3
"""datk's agent: runs artifacts on this device and writes down what happened. It grades nothing.

    agent.py probe --root DIR        what this device is, as JSON on standard output; sweeps DIR first
    agent.py supervise JOB_DIR       run JOB_DIR/job.json in a child of its own; writes exactly one result.json
    agent.py end JOB_DIR             end every process of a job, for certain, and remove its folder

One file, Python 3.8 or newer and NumPy; the runtimes (LiteRT, ONNX Runtime, TensorRT, Core ML) are used where present.
`supervise` reads bytes from standard input as a sign that its host lives: end of file or silence ends the job. Its
child, the worker, is in a process group of its own whose number is in JOB_DIR/pid.
Exit codes of supervise: 0 result.json written, 28 no space for it, 75 another job holds this device.
"""

# Runs on devices, unpackaged and with Python 3.8: checked by its own tests rather than by strict typing.
# mypy: disallow_untyped_defs=False, disallow_untyped_calls=False, check_untyped_defs=False

import argparse
import contextlib
import ctypes
import errno
import fcntl
import glob
import hashlib
import json
import os
import platform
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

LOST_AFTER_S = 15.0
"""Silence on standard input after which the host is taken for dead."""
LOG_BYTES = 8192
EXIT_FULL, EXIT_BUSY = 28, 75
RESULT, WORK, PID, LOG, JOB, PREDICTIONS = (
    "result.json", "work.json", "pid", "work.log", "job.json", "predictions.npy",
)  # fmt: skip


class Refused(Exception):
    """The job cannot be done here; kind says of which sort the reason is."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


# --- what this device tells -------------------------------------------------------------------------------------------


def read_text(path):
    """A small system file's text, or None."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read(4096).strip()
    except OSError:
        return None


def read_number(path):
    text = read_text(path)
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def module_version(name, distribution=None):
    """Version of an importable package, "unknown" when it does not tell, None when it is absent."""
    import importlib.util

    if importlib.util.find_spec(name) is None:
        return None
    try:
        from importlib.metadata import PackageNotFoundError, version
    except ImportError:
        return "unknown"
    try:
        return version(distribution or name)
    except PackageNotFoundError:
        return "unknown"


def runtimes():
    """Runtime name -> version, for those that are installed. Imports none of them."""
    found = {
        "litert": module_version("ai_edge_litert", "ai-edge-litert") or module_version("tflite_runtime"),
        "onnxruntime": module_version("onnxruntime"),
        "tensorrt": module_version("tensorrt"),
        "coreml": module_version("coremltools") if sys.platform == "darwin" else None,
    }
    return {name: version for name, version in found.items() if version is not None}


def usable_cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes():
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def model_name():
    """The board or CPU in its own words."""
    tree = read_text("/proc/device-tree/model")
    if tree:
        return tree.rstrip("\x00")
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return platform.processor() or None


def probe(root):
    """JSON values: what a host must know before it sends anything."""
    folder = root
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        free = shutil.disk_usage(folder or ".").free
    except OSError:
        free = None
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "release": platform.release(),
        "model": model_name(),
        "python": platform.python_version(),
        "numpy": module_version("numpy"),
        "cores": usable_cores(),
        "memory_bytes": memory_bytes(),
        "free_bytes": free,
        "runtimes": runtimes(),
    }


def sensors():
    """Clocks, temperatures, power and load as this system shows them; what it does not show is absent."""
    out = {"time_s": time.time(), "temperatures_c": {}, "clocks_mhz": {}, "power_mw": {}}
    for zone in sorted(glob.glob("/sys/class/thermal/thermal_zone*"))[:64]:
        value = read_number(zone + "/temp")
        if value is not None:
            out["temperatures_c"][(read_text(zone + "/type") or Path(zone).name)[:40]] = value / 1000
    for cpu in sorted(glob.glob("/sys/devices/system/cpu/cpu[0-9]*/cpufreq"))[:64]:
        value, limit = read_number(cpu + "/scaling_cur_freq"), read_number(cpu + "/cpuinfo_max_freq")
        if value is not None:
            name = Path(cpu).parent.name
            out["clocks_mhz"][name] = value / 1000
            if limit is not None:
                out["clocks_mhz"][name + " max"] = limit / 1000
    for chip in sorted(glob.glob("/sys/class/hwmon/hwmon*"))[:32]:
        out["power_mw"].update(hwmon_power(chip))
    for supply in sorted(glob.glob("/sys/class/power_supply/*"))[:8]:
        capacity = read_number(supply + "/capacity")
        if capacity is not None:
            out["battery_percent"] = capacity
            out["battery_status"] = (read_text(supply + "/status") or "")[:40]
    throttled = [read_number(p) for p in glob.glob("/sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count")]
    if any(v is not None for v in throttled):
        out["throttle_count"] = sum(v for v in throttled if v is not None)
    if hasattr(os, "getloadavg"):
        with contextlib.suppress(OSError):
            out["load_1min"] = os.getloadavg()[0]
    mode = power_mode()
    if mode:
        out["power_mode"] = mode
    return out


def hwmon_power(chip):
    """Milliwatts a rail: power*_input (microwatts), or voltage times current of a monitor such as Jetson's INA3221."""
    found = {}
    name = (read_text(chip + "/name") or Path(chip).name)[:20]
    for path in sorted(glob.glob(chip + "/power*_input"))[:16]:
        value = read_number(path)
        if value is not None:
            found[name + " " + Path(path).name.replace("_input", "")] = value / 1000
    for path in sorted(glob.glob(chip + "/curr*_input"))[:16]:
        number = Path(path).name[len("curr") : -len("_input")]
        current, volts = read_number(path), read_number(chip + "/in" + number + "_input")
        if current is not None and volts is not None:
            label = read_text(chip + "/in" + number + "_label") or number
            found[(name + " " + label)[:40]] = current * volts / 1000
    return found


def power_mode():
    """A Jetson's nvpmodel mode in its own words; None elsewhere."""
    tool = shutil.which("nvpmodel")
    if tool is None:
        return None
    try:
        done = subprocess.run([tool, "-q"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return next((line.split(":", 1)[1].strip()[:40] for line in lines if "Power Mode" in line and ":" in line), None)


def own_memory():
    """(resident now, largest ever) of this process in bytes; None where the system does not tell."""
    now = peak = None
    for line in (read_text("/proc/self/status") or "").splitlines():
        if line.startswith("VmRSS:"):
            now = int(line.split()[1]) * 1024
        if line.startswith("VmHWM:"):
            peak = int(line.split()[1]) * 1024
    return now, peak


# --- runtimes: each class loads one artifact and answers put(), invoke(), take() --------------------------------------


class LiteRt:
    """A .tflite file in ai_edge_litert or tflite_runtime."""

    def __init__(self, path, spec, threads):
        try:
            from ai_edge_litert.interpreter import Interpreter

            package = "ai-edge-litert " + str(module_version("ai_edge_litert", "ai-edge-litert"))
        except ImportError:
            from tflite_runtime.interpreter import Interpreter

            package = "tflite-runtime " + str(module_version("tflite_runtime"))
        try:
            self.interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise Refused("load", "LiteRT cannot load it: %s" % error) from error
        source, answer = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        check_edges([(d["name"], tuple(d["shape"]), d["dtype"]) for d in source + answer], spec)
        self.source, self.answer = source[0]["index"], answer[0]["index"]
        self.scale, self.zero_point = answer[0]["quantization"]  # (0.0, 0) of a float output
        self.version = package

    def put(self, image):
        self.interpreter.set_tensor(self.source, image)

    def invoke(self):
        self.interpreter.invoke()

    def take(self):
        depth = self.interpreter.get_tensor(self.answer)
        return (depth.astype("float32") - self.zero_point) * self.scale if self.scale else depth

    def placement(self, path, image):
        """Parts handed to a delegate, and the operators left to LiteRT's plain kernels."""
        del path, image
        listing = getattr(self.interpreter, "_get_ops_details", None)
        if listing is None:
            return None, "this runtime does not list its operators"
        operators = listing()
        parts = [o for o in operators if o["op_name"] == "DELEGATE"]
        if not parts:
            return {"plain kernels": len(operators), "fallback": len(operators)}, None
        taken = litert_delegated(operators)
        rest = [o for o in operators if o["op_name"] != "DELEGATE" and o["index"] not in taken]
        names = sorted({o["op_name"] for o in rest})[:40]
        return {
            "delegate parts": len(parts), "delegated": len(taken), "fallback": len(rest), "fallback_ops": names,
        }, None  # fmt: skip


def litert_delegated(operators):
    """Indices of the operators a delegate part computes: those all of whose outputs no remaining operator's plan needs
    to produce, found backwards from each part's outputs to its inputs."""
    producer = {}
    for operator in operators:
        if operator["op_name"] != "DELEGATE":
            for tensor in operator["outputs"]:
                producer[int(tensor)] = operator
    taken = set()
    for part in operators:
        if part["op_name"] != "DELEGATE":
            continue
        edges = {int(t) for t in part["inputs"]}
        wanted = [int(t) for t in part["outputs"]]
        while wanted:
            tensor = wanted.pop()
            operator = producer.get(tensor)
            if operator is None or operator["index"] in taken:
                continue
            taken.add(operator["index"])
            wanted += [int(t) for t in operator["inputs"] if int(t) not in edges]
    return taken


class OnnxRuntime:
    """An .onnx file in ONNX Runtime, with the first provider the build has."""

    def __init__(self, path, spec, threads):
        import onnxruntime

        self.module = onnxruntime
        self.threads = threads
        wanted = ("CUDAExecutionProvider", "CoreMLExecutionProvider", "QNNExecutionProvider")
        here = onnxruntime.get_available_providers()
        self.providers = [p for p in wanted if p in here] + ["CPUExecutionProvider"]
        self.session = self.open(path, profile=None)
        source, answer = self.session.get_inputs(), self.session.get_outputs()
        types = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}
        check_edges([(t.name, tuple(t.shape), types.get(t.type, t.type)) for t in [*source, *answer]], spec)
        self.source, self.answer = source[0].name, answer[0].name
        self.version = "onnxruntime " + onnxruntime.__version__ + ", " + self.session.get_providers()[0]
        self.image = self.depth = None

    def open(self, path, profile):
        options = self.module.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        if profile:
            options.enable_profiling = True
            options.profile_file_prefix = profile
        try:
            return self.module.InferenceSession(str(path), options, providers=self.providers)
        except Exception as error:
            raise Refused("load", "ONNX Runtime cannot load it: %s" % error) from error

    def put(self, image):
        self.image = image

    def invoke(self):
        (self.depth,) = self.session.run([self.answer], {self.source: self.image})

    def take(self):
        return self.depth

    def placement(self, path, image):
        """Nodes by provider, from one profiled run in a session of its own."""
        session = self.open(path, profile=str(Path(path).parent / "profile"))
        session.run([self.answer], {self.source: image})
        trace = Path(session.end_profiling())
        counts, names = {}, set()
        for event in json.loads(trace.read_text(encoding="utf-8")):
            provider = (event.get("args") or {}).get("provider")
            if event.get("cat") == "Node" and provider:
                counts[provider] = counts.get(provider, 0) + 1
                if provider == "CPUExecutionProvider":
                    names.add(event["args"].get("op_name", "?"))
        trace.unlink()
        if self.providers[0] == "CPUExecutionProvider":
            return {**counts, "fallback": 0}, None
        counts["fallback"] = counts.get("CPUExecutionProvider", 0)
        counts["fallback_ops"] = sorted(names)[:40]
        return counts, None


class CoreMl:
    """An .mlpackage in Core ML, by coremltools, on whatever unit Core ML chooses."""

    def __init__(self, path, spec, threads):
        del threads
        import coremltools

        self.module = coremltools
        try:
            self.model = coremltools.models.MLModel(str(path))
        except Exception as error:
            raise Refused("load", "Core ML cannot load it: %s" % error) from error
        self.source, self.answer = spec["input"]["name"], spec["output"]["name"]
        self.size = spec["input_size"]
        self.version = "coremltools " + coremltools.__version__ + ", macOS " + platform.mac_ver()[0]
        self.image = self.depth = None

    def put(self, image):
        from PIL import Image

        self.image = Image.fromarray(image[0], "RGB")

    def invoke(self):
        self.depth = self.model.predict({self.source: self.image})[self.answer]

    def take(self):
        return self.depth

    def placement(self, path, image):
        """Operators by preferred device, from Core ML's compute plan."""
        del path, image
        try:
            from coremltools.models.compute_plan import MLComputePlan
        except ImportError:
            return None, "this coremltools has no compute plan"
        plan = MLComputePlan.load_from_path(self.model.get_compiled_model_path())
        counts = {}
        for function in plan.model_structure.program.functions.values():
            for operation in function.block.operations:
                usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
                if usage is not None:
                    name = type(usage.preferred_compute_device).__name__
                    counts[name] = counts.get(name, 0) + 1
        counts["fallback"] = counts.get("MLCPUComputeDevice", 0)
        return counts, None


class TensorRt:
    """A serialised engine, or an .onnx file that is built into one here."""

    def __init__(self, path, spec, threads):
        del threads
        import numpy as np
        import tensorrt as trt

        self.trt, self.np = trt, np
        self.cuda = cuda_library()
        self.build_s = None
        logger = trt.Logger(trt.Logger.WARNING)
        serialized = path.read_bytes() if path.suffix == ".engine" else self.build(path, logger)
        self.runtime = trt.Runtime(logger)
        self.engine = self.runtime.deserialize_cuda_engine(serialized)
        if self.engine is None:
            raise Refused("load", "the engine does not load here: built by another TensorRT or for another GPU")
        self.context = self.engine.create_execution_context()
        self.depth = np.empty(spec["output"]["shape"], dtype=spec["output"]["dtype"])
        size = int(np.prod(spec["input"]["shape"])) * np.dtype(spec["input"]["dtype"]).itemsize
        self.addresses = (self.allocate(size), self.allocate(self.depth.nbytes))
        self.stream = ctypes.c_void_p()
        self.call("cudaStreamCreate", ctypes.byref(self.stream))
        for spec_name, address in ((spec["input"], self.addresses[0]), (spec["output"], self.addresses[1])):
            self.context.set_tensor_address(spec_name["name"], address.value)
        self.version = "tensorrt " + trt.__version__

    def build(self, path, logger):
        trt = self.trt
        started = time.perf_counter()
        builder = trt.Builder(logger)
        typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        network = builder.create_network(0 if typed is None else 1 << int(typed))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(path.read_bytes()):
            words = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
            raise Refused("load", "TensorRT's parser refuses it: " + words)
        built = builder.build_serialized_network(network, builder.create_builder_config())
        if built is None:
            raise Refused("load", "TensorRT built no engine; the log says why")
        self.build_s = time.perf_counter() - started
        return bytes(built)

    def call(self, name, *arguments):
        status = getattr(self.cuda, name)(*arguments)
        if status != 0:
            raise Refused("run", "%s failed with CUDA status %d" % (name, status))

    def allocate(self, size):
        pointer = ctypes.c_void_p()
        self.call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(size))
        return pointer

    def put(self, image):
        image = self.np.ascontiguousarray(image)
        source = image.ctypes.data_as(ctypes.c_void_p)
        self.call("cudaMemcpy", self.addresses[0], source, ctypes.c_size_t(image.nbytes), ctypes.c_int(1))

    def invoke(self):
        if not self.context.execute_async_v3(self.stream.value):
            raise Refused("run", "the engine refused to run")
        self.call("cudaStreamSynchronize", self.stream)

    def take(self):
        target = self.depth.ctypes.data_as(ctypes.c_void_p)
        self.call("cudaMemcpy", target, self.addresses[1], ctypes.c_size_t(self.depth.nbytes), ctypes.c_int(2))
        return self.depth

    def placement(self, path, image):
        del path, image
        return {"gpu layers": int(self.engine.num_layers), "fallback": 0}, None


def cuda_library():
    for name in ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0"):
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    raise Refused("runtime_missing", "the CUDA runtime library was not found")


BACKENDS = {"litert": LiteRt, "onnxruntime": OnnxRuntime, "coreml": CoreMl, "tensorrt": TensorRt}


def check_edges(found, spec):
    """Refuse an artifact whose input or output is not what its contract says. Names differ between formats."""
    import numpy as np

    wanted = [(tuple(spec[edge]["shape"]), spec[edge]["dtype"]) for edge in ("input", "output")]
    seen = [(tuple(int(s) for s in shape), np.dtype(dtype).name) for _, shape, dtype in found]
    if seen != wanted:
        raise Refused("load", "expected tensors %s, the file has %s" % (wanted, seen))


# --- the worker: loads, predicts, times -------------------------------------------------------------------------------


def sha256_of(path):
    """Hex digest of a file, or of a folder as datk hashes one: sorted relative names and digests."""
    digest = hashlib.sha256()
    if path.is_dir():
        for item in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update((item.relative_to(path).as_posix() + "\0" + sha256_of(item) + "\n").encode())
        return digest.hexdigest()
    with path.open("rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def half(depth):
    """(float16 map, scale, shift): stored = (depth - shift) * scale, scale a power of two, so that the map's own range
    uses float16's precision. Values that are not finite stay what they are."""
    import numpy as np

    depth = np.asarray(depth, dtype=np.float64)
    finite = depth[np.isfinite(depth)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    shift, half_span = (low + high) / 2, (high - low) / 2
    scale = 2.0 ** -float(np.ceil(np.log2(half_span))) if 1e-30 < half_span < 1e30 else 1.0
    return ((depth - shift) * scale).astype(np.float16), scale, shift


def timed(model, image):
    """(pre, infer, post) milliseconds of one call, and its map."""
    t0 = time.perf_counter()
    model.put(image)
    t1 = time.perf_counter()
    model.invoke()
    t2 = time.perf_counter()
    depth = model.take()
    t3 = time.perf_counter()
    return (1e3 * (t1 - t0), 1e3 * (t2 - t1), 1e3 * (t3 - t2)), depth


def npy_header(shape):
    """The 128 bytes before the values of a float16 .npy file (format 1.0), the same whatever NumPy is here."""
    text = "{'descr': '<f2', 'fortran_order': False, 'shape': (%d, %d, %d), }" % tuple(shape)
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n"


def predict_all(folder, model, images, spec):
    """Write predictions.npy, (n, h, w) float16, map by map; figures that belong to it."""
    import numpy as np

    h, w = spec["input_size"]
    scales, shifts, raw = [], [], hashlib.sha256()
    part = folder / (PREDICTIONS + ".part")
    with part.open("wb") as handle:
        handle.write(npy_header((len(images), h, w)))
        for number in range(len(images)):
            _, depth = timed(model, np.ascontiguousarray(images[number])[None])
            depth = np.asarray(depth, dtype=np.float32).reshape(h, w)
            raw.update(depth.tobytes())
            stored, scale, shift = half(depth)
            handle.write(stored.astype("<f2").tobytes())
            scales.append(scale)
            shifts.append(shift)
        handle.flush()
        os.fsync(handle.fileno())
    part.replace(folder / PREDICTIONS)
    return {
        "sha256": sha256_of(folder / PREDICTIONS),
        "shape": [len(images), h, w],
        "scale": scales,
        "shift": shifts,
        "float32_sha256": raw.hexdigest(),
    }


def latency(models, image, job):
    """times[part][round] = [[pre, infer, post], ...]; parts take turns, and the order alternates."""
    for model in models:
        for _ in range(job["warmup"]):
            timed(model, image)
    times = [[] for _ in models]
    for turn in range(job["rounds"]):
        order = range(len(models)) if turn % 2 == 0 else reversed(range(len(models)))
        for number in order:
            times[number].append([list(timed(models[number], image)[0]) for _ in range(job["runs"])])
    return times


BENCHMARK_TIMES = re.compile(
    r"Inference timings in us: Init: ([0-9.e+]+), First inference: ([0-9.e+]+), "
    r"Warmup \(avg\): ([0-9.e+]+), Inference \(avg\): ([0-9.e+]+)"
)
BENCHMARK_PEAK = re.compile(r"[Pp]eak memory footprint \(MB\)[^:]*: ([0-9.]+)")


def benchmark(job, artifact):
    """(figures, None) of LiteRT's own benchmark binary on this artifact, or (None, why there are none)."""
    if job["runtime"] != "litert":
        return None, "it runs LiteRT files alone"
    program = job["benchmark"]
    if not os.access(program, os.X_OK):
        return None, "%s is not on the device" % program
    command = [
        program, "--graph=" + str(artifact), "--num_threads=%d" % job["threads"],
        "--warmup_runs=%d" % max(job["warmup"], 1), "--num_runs=%d" % (job["rounds"] * job["runs"]),
        "--report_peak_memory_footprint=true",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)[:300]
    text = done.stdout.decode("utf-8", "replace")
    times, peak = BENCHMARK_TIMES.search(text), BENCHMARK_PEAK.search(text)
    if done.returncode != 0 or times is None:
        lines = text.strip().splitlines()
        return None, ("it ended with code %d: %s" % (done.returncode, lines[-1] if lines else "no words"))[:300]
    init, first, warmup, mean = (float(v) / 1000 for v in times.groups())
    figures = {"init_ms": init, "first_run_ms": first, "warmup_mean_ms": warmup, "mean_ms": mean}
    return dict(figures, peak_mb=float(peak.group(1)) if peak else None), None


def check_sent(folder, items):
    for item in items:
        if sha256_of(folder / item["file"]) != item["sha256"]:
            raise Refused("transfer", item["file"] + " is not the file the host sent: its sha256 differs")


def build(folder, job):
    """Run a script that came with an artifact; how it ended, and which of the wanted files it left.

    It runs in this process, in its own folder: whatever ends the worker ends it, and its crash is the worker's.
    """
    import runpy

    check_sent(folder, job["files"])
    before, start = sensors(), own_memory()
    home = folder / job["folder"]
    os.chdir(str(home))
    sys.argv = [job["script"], *job["arguments"]]
    sys.path.insert(0, str(home))  # as Python does for a script: it finds the files beside it
    try:
        runpy.run_path(str(home / job["script"]), run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    sys.stdout.flush()
    outputs = {}
    for name in job["results"]:
        path = home / name
        if path.is_file() and not path.is_symlink():
            outputs[name] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    after, peak = sensors(), own_memory()
    return {
        "exit_code": code,
        "outputs": outputs,
        "sensors_before": before,
        "sensors_after": after,
        "memory": {"start_bytes": start[0], "loaded_bytes": None, "peak_bytes": peak[1]},
    }


def work(folder):
    """Do job.json; the answer as JSON values. Raises Refused."""
    import numpy as np

    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    if job.get("task") == "build":
        return build(folder, job)
    check_sent(folder, [*job["artifacts"], job["inputs"]])
    images = np.load(str(folder / job["inputs"]["file"]), mmap_mode="r", allow_pickle=False)
    before, start = sensors(), own_memory()
    backend = BACKENDS[job["runtime"]]
    models, parts = [], []
    first = np.ascontiguousarray(images[0])[None]
    for spec in job["artifacts"]:
        started = time.perf_counter()
        try:
            model = backend(folder / spec["file"], spec, job["threads"])
        except ImportError as error:
            raise Refused("runtime_missing", "%s is not installed here: %s" % (job["runtime"], error)) from error
        load_ms = 1e3 * (time.perf_counter() - started)
        first_ms = sum(timed(model, first)[0])
        models.append(model)
        parts.append({"role": spec["role"], "sha256": spec["sha256"], "load_ms": load_ms, "first_run_ms": first_ms})
        if getattr(model, "build_s", None) is not None:
            parts[-1]["build_s"] = model.build_s
    loaded = own_memory()
    predictions = predict_all(folder, models[0], images, job["artifacts"][0])
    times = latency(models, first, job)
    after, peak = sensors(), own_memory()
    for number, model in enumerate(models):
        parts[number]["times_ms"] = times[number]
        parts[number]["placement"], parts[number]["no_placement"] = model.placement(
            folder / job["artifacts"][number]["file"], first
        )
    if job.get("benchmark"):
        parts[0]["benchmark"], parts[0]["no_benchmark"] = benchmark(job, folder / job["artifacts"][0]["file"])
    return {
        "runtime": models[0].version,
        "parts": parts,
        "predictions": predictions,
        "sensors_before": before,
        "sensors_after": after,
        "memory": {"start_bytes": start[0], "loaded_bytes": loaded[0], "peak_bytes": peak[1]},
    }


def die_with_parent():
    """Ask the kernel to end this process when the supervisor ends, however that happens (Linux, Android)."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


def worker(folder, parent):
    die_with_parent()
    if os.getppid() != parent:
        return 1
    try:
        answer = {"ok": True, **work(folder)}
    except Refused as error:
        answer = {"ok": False, "kind": error.kind, "message": str(error)[:4000]}
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        answer = {"ok": False, "kind": "disk_full", "message": str(error)[:4000]}
    write_json(folder / WORK, answer)
    return 0


def write_json(path, value):
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value), encoding="utf-8")
    part.replace(path)


# --- the supervisor: one child, one lock, one result ------------------------------------------------------------------


def start_time(pid):
    """Something that differs when a process number is used again; None when there is no such process."""
    text = read_text("/proc/%d/stat" % pid)
    if text is not None:
        fields = text.rsplit(")", 1)[1].split()
        return None if fields[0] == "Z" else fields[19]
    if os.path.isdir("/proc/self"):
        return None
    done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], stdout=subprocess.PIPE, check=False)
    return done.stdout.decode().strip() or None


def end_group(pid, started):
    """Kill the process group that `pid` leads, if it still is the one that was started then."""
    if started is not None and start_time(pid) not in (started, None):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def end_job(folder):
    """End supervisor and worker of a job folder by its pid file. True when there was one."""
    text = read_text(folder / PID)
    if not text:
        return False
    for line in text.splitlines():
        number, _, started = line.partition(" ")
        if number.isdigit() and int(number) > 1 and int(number) != os.getpid():
            end_group(int(number), started or None)
    return True


def alive(folder):
    for line in (read_text(folder / PID) or "").splitlines():
        number, _, started = line.partition(" ")
        if number.isdigit() and started and start_time(int(number)) == started:
            return True
    return False


def take_lock(root):
    """An open, locked file, or None when another job holds this device. The lock goes with the process."""
    handle = (root / "lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    return handle


def sweep(root, age_s):
    """End and remove jobs nobody waits for. A device with a living job is left alone."""
    if not root.is_dir():
        return {"removed": 0}
    lock = take_lock(root)
    if lock is None:
        return {"busy": True, "removed": 0}
    removed = 0
    for folder in root.glob("job-*"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        if alive(folder) or time.time() - folder.stat().st_mtime > age_s:
            end_job(folder)
            shutil.rmtree(str(folder), ignore_errors=True)
            removed += 1
    return {"removed": removed}


class Ended(Exception):
    """A signal asked the supervisor to stop."""


def watch(child, deadline, lost_after_s):
    """Wait for the worker. Returns why it ended (exit, timeout, lost, cancelled) and what wait4 says."""
    source = sys.stdin.fileno()
    heard = time.monotonic()
    while True:
        try:
            ready = select.select([source], [], [], 0.1)[0]
            if ready:
                if not os.read(source, 4096):
                    return "lost", None
                heard = time.monotonic()
            number, status, usage = os.wait4(child.pid, os.WNOHANG)
        except Ended:
            return "cancelled", None
        if number:
            return "exit", (status, usage)
        if time.monotonic() > deadline:
            return "timeout", None
        if time.monotonic() - heard > lost_after_s:
            return "lost", None


def supervise(folder, lost_after_s):
    lock = take_lock(folder.parent)
    if lock is None:
        print("another job holds this device", file=sys.stderr)
        return EXIT_BUSY
    if os.getpid() != os.getpgrp():
        with contextlib.suppress(PermissionError):
            os.setsid()

    def stop(number, frame):
        del number, frame
        raise Ended

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, stop)
    started = time.monotonic()
    try:
        result = attend(folder, lost_after_s)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print("no space left: %s" % error, file=sys.stderr)
        return EXIT_FULL
    result["wall_s"] = time.monotonic() - started
    if result["outcome"] == "lost":
        shutil.rmtree(str(folder), ignore_errors=True)
        return 1
    try:
        write_json(folder / RESULT, result)
    except OSError as error:
        print("no space left: %s" % error, file=sys.stderr)
        return EXIT_FULL
    return 0


def attend(folder, lost_after_s):
    """Run the worker to its end, whichever that is; the result's values."""
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    command = [sys.executable, os.path.abspath(__file__), "work", str(folder), "--parent", str(os.getpid())]
    launcher = os.environ.get("DATK_AGENT_LAUNCHER")
    if launcher:
        command = [*json.loads(launcher), *command[1:]]
    with (folder / LOG).open("wb") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=str(folder)
        )
    numbers = [os.getpid(), child.pid]
    (folder / PID).write_text("".join("%d %s\n" % (n, start_time(n) or "") for n in numbers))
    try:
        why, waited = watch(child, time.monotonic() + job["deadline_s"], lost_after_s)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    status, usage = waited or os.wait4(child.pid, 0)[1:]
    code = child.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    answer = read_answer(folder) if why == "exit" else None
    result = {
        "schema_version": 1,
        "job": job["job"],
        "outcome": why,
        "error": None,
        "exit_code": code,
        "work": None,
        "device": probe(str(folder)),
        "log": tail(folder / LOG),
    }
    if why == "exit" and answer is None:
        result["outcome"] = "crashed"
        result["error"] = {"kind": "crash", "message": "the worker ended with %s" % exit_words(code)}
    elif answer is not None and not answer["ok"]:
        result["outcome"] = "failed"
        result["error"] = {"kind": answer["kind"], "message": answer["message"]}
    elif answer is not None:
        result["outcome"] = "ok"
        result["work"] = {key: value for key, value in answer.items() if key != "ok"}
    elif why == "timeout":
        result["error"] = {"kind": "timeout", "message": "ended after %g s" % job["deadline_s"]}
    if result["work"] is not None:
        result["work"]["memory"]["child_bytes"] = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return result


def exit_words(code):
    if code < 0:
        try:
            return "signal %s" % signal.Signals(-code).name
        except ValueError:
            return "signal %d" % -code
    return "exit code %d" % code


def read_answer(folder):
    try:
        return json.loads((folder / WORK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def tail(path):
    try:
        with path.open("rb") as handle:
            handle.seek(max(0, path.stat().st_size - LOG_BYTES))
            return handle.read(LOG_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("probe")
    one.add_argument("--root", type=Path, required=True)
    one.add_argument("--age", type=float, default=900, help="seconds after which a job's remains are nobody's")
    for name in ("supervise", "end", "work"):
        one = verbs.add_parser(name)
        one.add_argument("folder", type=Path)
        if name == "supervise":
            one.add_argument("--lost-after", type=float, default=LOST_AFTER_S)
        if name == "work":
            one.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(arguments)
    if options.verb == "probe":
        swept = sweep(options.root, options.age)
        print(json.dumps({**probe(str(options.root)), "swept": swept}))
        return 0
    folder = options.folder.resolve()
    if options.verb == "end":
        end_job(folder)
        shutil.rmtree(str(folder), ignore_errors=True)
        return 0
    if options.verb == "work":
        return worker(folder, options.parent)
    return supervise(folder, options.lost_after)


if __name__ == "__main__":
    sys.exit(main())
