#!/usr/bin/env python3
"""Run a .tflite depth file on a device and print latency as JSON. Self-contained: copy this one file.

Needs Python >= 3.8, numpy and ai-edge-litert or tflite-runtime (the latter with numpy < 2).

    python run_tflite.py model.tflite IMAGES --threads 4 --out DEPTHS [--weight-cache FILE]

IMAGES: a folder of .npy files, each (h, w, 3) or (1, h, w, 3) uint8 RGB of the file's own input size.
With --out, each answer is written as NAME.npy, (h, w) float32. With --weight-cache (ai-edge-litert 2), XNNPACK writes
its packed weights to FILE at the first start and maps them afterwards; FILE belongs to this one model. Exit codes:
0 fine, 2 wrong input, 4 no runtime installed.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any, List, Optional, Tuple


def open_model(path: Path, threads: int) -> Tuple[Any, Any, str]:
    """(shape the model takes, (1, h, w, 3) -> (1, h, w), package that runs it)."""
    try:
        from ai_edge_litert.interpreter import Interpreter

        runtime = "ai-edge-litert"
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter

            runtime = "tflite-runtime"
        except ImportError:
            code = fail(4, "neither ai-edge-litert nor tflite-runtime is installed: pip install ai-edge-litert")
            raise SystemExit(code) from None
    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(image: Any) -> Any:
        interpreter.set_tensor(source["index"], image)
        interpreter.invoke()
        return real(interpreter.get_tensor(result["index"]), result["quantization"])

    return tuple(int(side) for side in source["shape"]), run, runtime


def real(values: Any, steps: Any) -> Any:
    """Values of an output. steps: (scale, zero point) of an int8 one, else (0.0, 0)."""
    return (values.astype("float32") - steps[1]) * steps[0] if steps[0] else values


def open_cached(path: Path, threads: int, cache: Path) -> Tuple[Any, Any, str]:
    """As open_model, with XNNPACK's packed weights in a file."""
    try:
        import numpy as np
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.interpreter import Interpreter
        from ai_edge_litert.options import CpuOptions, HardwareAccelerator, Options
    except ImportError:
        raise SystemExit(fail(4, "--weight-cache needs ai-edge-litert 2: pip install ai-edge-litert")) from None
    cpu = CpuOptions(num_threads=threads, xnnpack_weight_cache_path=str(cache))
    options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=cpu)
    model = CompiledModel.from_file(str(path), options=options)
    key = next(iter(model.get_signature_list()))
    source = next(iter(model.get_input_tensor_details(key).values()))
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    steps = Interpreter(model_path=str(path)).get_output_details()[0]["quantization"]  # CompiledModel does not tell

    def run(image: Any) -> Any:
        inputs[0].write(image)
        model.run_by_index(0, inputs, outputs)
        values = outputs[0].read(image.shape[1] * image.shape[2], np.int8 if steps[0] else np.float32)
        return real(values.reshape(image.shape[:3]), steps)

    return tuple(int(side) for side in source["shape"]), run, "ai-edge-litert"


def fail(code: int, message: str) -> int:
    print("run_tflite: " + message, file=sys.stderr)
    return code


def percentile(sorted_values: List[float], share: float) -> float:
    """Nearest-rank percentile: share in 0..1 of a sorted, non-empty list."""
    rank = max(1, -(-len(sorted_values) * int(share * 100) // 100))
    return sorted_values[rank - 1]


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=3, help="runs on the first image that are not timed")
    parser.add_argument("--repeat", type=int, default=1, help="timed runs per image")
    parser.add_argument("--out", type=Path, help="folder for the depth maps")
    parser.add_argument("--weight-cache", type=Path, help="file for XNNPACK's packed weights, of this model alone")
    options = parser.parse_args(arguments)

    import numpy as np

    paths = sorted(options.images.glob("*.npy"))
    if not options.model.is_file():
        return fail(2, "{}: no such file".format(options.model))
    if not paths:
        return fail(2, "{}: holds no .npy files".format(options.images))
    started = time.perf_counter()
    if options.weight_cache:
        expected, run_model, runtime = open_cached(options.model, options.threads, options.weight_cache)
    else:
        expected, run_model, runtime = open_model(options.model, options.threads)
    load_ms = 1000 * (time.perf_counter() - started)

    times_ms = []
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths):
        image = np.load(str(path), allow_pickle=False)
        image = image[None] if image.ndim == 3 else image
        if image.shape != expected or image.dtype != np.uint8:
            return fail(2, "{}: expected uint8 {}, got {} {}".format(path, expected, image.dtype, image.shape))
        for run in range(options.repeat + (options.warmup if number == 0 else 0)):
            begin = time.perf_counter()
            depth = run_model(image)
            if number or run >= options.warmup:
                times_ms.append(1000 * (time.perf_counter() - begin))
        if options.out:
            np.save(str(options.out / path.name), depth[0].astype(np.float32))

    times_ms.sort()
    report = {
        "model": options.model.name,
        "runtime": runtime,
        "machine": platform.machine(),
        "threads": options.threads,
        "images": len(paths),
        "runs": len(times_ms),
        "warmup": options.warmup,
        "load_ms": round(load_ms, 3),
        "latency_p50_ms": round(percentile(times_ms, 0.5), 3),
        "latency_p90_ms": round(percentile(times_ms, 0.9), 3),
        "latency_p99_ms": round(percentile(times_ms, 0.99), 3),
    }
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
