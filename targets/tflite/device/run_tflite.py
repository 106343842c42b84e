#!/usr/bin/env python3
"""Run a .tflite depth file on a device and print latency as JSON. Self-contained: copy this one file.

Needs Python >= 3.8, numpy and ai-edge-litert or tflite-runtime (the latter with numpy < 2).

    python run_tflite.py model.tflite IMAGES --threads 4 --out DEPTHS

IMAGES: a folder of .npy files, each (h, w, 3) or (1, h, w, 3) uint8 RGB of the file's own input size.
With --out, each answer is written as NAME.npy, (h, w) float32. Exit codes: 0 fine, 2 wrong input,
4 no runtime installed.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any, List, Optional, Tuple


def load_runtime() -> Tuple[Any, str]:
    """The interpreter class and the name of the package it comes from."""
    try:
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter, "ai-edge-litert"
    except ImportError:
        pass
    try:
        from tflite_runtime.interpreter import Interpreter

        return Interpreter, "tflite-runtime"
    except ImportError:
        code = fail(4, "neither ai-edge-litert nor tflite-runtime is installed: pip install ai-edge-litert")
        raise SystemExit(code) from None


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
    options = parser.parse_args(arguments)

    import numpy as np

    interpreter_class, runtime = load_runtime()
    paths = sorted(options.images.glob("*.npy"))
    if not options.model.is_file():
        return fail(2, "{}: no such file".format(options.model))
    if not paths:
        return fail(2, "{}: holds no .npy files".format(options.images))
    started = time.perf_counter()
    interpreter = interpreter_class(model_path=str(options.model), num_threads=options.threads)
    interpreter.allocate_tensors()
    load_ms = 1000 * (time.perf_counter() - started)
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    expected = tuple(int(side) for side in source["shape"])

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
            interpreter.set_tensor(source["index"], image)
            interpreter.invoke()
            depth = interpreter.get_tensor(result["index"])
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
