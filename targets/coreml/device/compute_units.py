#!/usr/bin/env python3
"""Run this export on each of a Mac's compute units, compare their maps, time them, and tell where operations run.

    python3 compute_units.py [--runs 30] [--json RESULT.json] [--depths MAPS.npy]

Needs macOS with coremltools, NumPy and Pillow; Python 3.8 or newer. Reads contract.json, golden/ and the .mlpackage
beside it. Each of CPU, CPU and GPU, CPU and Neural Engine, and all of them answers the golden photographs and is held
to the float net's answers and to the CPU's; they take turns while they are timed. Core ML's compute plan tells where it
would run each operation.
Exit status: 0 passed, 3 a unit's answers are wrong, 4 no macOS, coremltools or file, 1 Core ML refuses the package.
"""

# Runs on Macs, unpackaged and with Python 3.8: checked by its own tests rather than by strict typing.
# mypy: disallow_untyped_defs=False, disallow_untyped_calls=False, check_untyped_defs=False

import argparse
import json
import platform
import sys
import time
from pathlib import Path

UNITS = ("CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL")
"""Names of coremltools.ComputeUnit; the last is what an app gets that asks for nothing."""
REFERENCE, DEFAULT = UNITS[0], UNITS[-1]
WARM_UP = 5


class LacksError(Exception):
    """Something this machine does not have."""


def libraries():
    """(coremltools, numpy, PIL.Image). Raises LacksError."""
    if sys.platform != "darwin":
        raise LacksError("Core ML runs on macOS only, this is " + sys.platform)
    try:
        import coremltools
        import numpy
        from PIL import Image
    except ImportError as error:
        raise LacksError("{}: pip install coremltools numpy pillow".format(error)) from error
    return coremltools, numpy, Image


def read_export(np, folder):
    """(contract, [(name, (h, w, 3) uint8 RGB, the float net's map)], least correlation with it). Raises LacksError."""
    try:
        contract = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
        golden = json.loads((folder / "golden" / "golden.json").read_text(encoding="utf-8"))
        size = tuple(contract["input_size"])
        images = []
        for entry in golden["images"]:
            data = (folder / entry["input"]).read_bytes()  # binary PPM, its pixels at the end
            pixels = np.frombuffer(data[-3 * size[0] * size[1] :], np.uint8).reshape(*size, 3)
            images.append((entry["name"], pixels, np.fromfile(str(folder / entry["float"]), "<f4").reshape(size)))
        return contract, images, float(golden["tolerance"]["float"]["min_correlation"])
    except (OSError, ValueError, KeyError) as error:
        raise LacksError("contract.json or golden/ cannot be read ({}): copy the whole export".format(error)) from error


class Unit:
    """The package, loaded for one choice of compute units."""

    def __init__(self, ct, image_module, name, package, contract):
        self.name, self.pictures = name, image_module
        self.source, self.answer = contract["input"]["name"], contract["output"]["name"]
        self.size = tuple(contract["input_size"])
        started = time.perf_counter()
        self.model = ct.models.MLModel(str(package), compute_units=getattr(ct.ComputeUnit, name))
        self.load_s = time.perf_counter() - started
        self.times = {"pre": [], "infer": [], "post": []}

    def run(self, np, pixels, keep=True):
        """The map of one picture; its milliseconds are kept."""
        marks = [time.perf_counter()]
        picture = self.pictures.fromarray(pixels)
        marks.append(time.perf_counter())
        found = self.model.predict({self.source: picture})[self.answer]
        marks.append(time.perf_counter())
        depth = np.asarray(found, dtype=np.float32).reshape(self.size)
        marks.append(time.perf_counter())
        if keep:
            for name, start, end in zip(self.times, marks, marks[1:]):  # noqa: B905 (Python 3.8)
                self.times[name].append(1e3 * (end - start))
        return depth

    def forget(self):
        """What was not meant to be timed."""
        for values in self.times.values():
            values.clear()


def compare(np, depth, expected):
    """Correlation, and largest difference relative to the expected map's top; nan anywhere counts as wrong."""
    if not np.isfinite(depth).all():
        return {"correlation": -1.0, "max_error_rel": None}
    error = float(np.abs(depth - expected).max()) / (float(np.abs(expected).max()) or 1.0)
    if depth.std() == 0 or expected.std() == 0:
        return {"correlation": 1.0 if error < 1e-3 else -1.0, "max_error_rel": error}
    return {"correlation": float(np.corrcoef(depth.ravel(), expected.ravel())[0, 1]), "max_error_rel": error}


def worst(compared):
    """Least correlation and largest error of several comparisons; None where one was not finite."""
    errors = [c["max_error_rel"] for c in compared]
    return {
        "least_correlation": min(c["correlation"] for c in compared),
        "max_error_rel": None if None in errors else max(errors),
    }


def percentiles(np, values):
    return {"p{}_ms".format(p): float(np.percentile(values, p)) for p in (50, 90, 99)}


def placement(ct, model, unit):
    """Operations by the kind of device Core ML would run them on, and those it would not run on the Neural Engine."""
    try:
        from coremltools.models.compute_plan import MLComputePlan
    except ImportError:
        return {"not_measured": "this coremltools ({}) has no compute plan: 8.0 or newer".format(ct.__version__)}
    plan = MLComputePlan.load_from_path(model.get_compiled_model_path(), compute_units=getattr(ct.ComputeUnit, unit))
    devices, elsewhere, cost = {}, {}, {}
    for function in plan.model_structure.program.functions.values():
        for operation in function.block.operations:
            usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
            if usage is None:  # a constant
                continue
            kind = type(usage.preferred_compute_device).__name__
            devices[kind] = devices.get(kind, 0) + 1
            weight = plan.get_estimated_cost_for_mlprogram_operation(operation)
            cost[kind] = cost.get(kind, 0.0) + (weight.weight if weight is not None else 0.0)
            if "NeuralEngine" not in kind:
                elsewhere[operation.operator_name] = elsewhere.get(operation.operator_name, 0) + 1
    return {"operations": devices, "estimated_cost": cost, "off_the_neural_engine": elsewhere}


def judge(units, least):
    """(status, detail): every unit held to the float net's answers."""
    wrong = [n for n, u in units.items() if u["vs_float"]["least_correlation"] < least]
    told = ", ".join("{} {:.6f}".format(n, u["vs_float"]["least_correlation"]) for n, u in units.items())
    words = "least correlation with the float net's answers: {}, needed {:g}".format(told, least)
    return ("failed", "{}: wrong on {}".format(words, ", ".join(wrong))) if wrong else ("passed", words)


def notes_of(units):
    """A sentence a unit: how far from the CPU, how fast, what of it runs where."""
    notes = []
    for name, unit in units.items():
        apart = unit["vs_cpu"]
        words = "{}: p50 {:.2f} ms".format(name, unit["latency"]["p50_ms"])
        if name != REFERENCE:
            words += ", least correlation with {} {:.6f}".format(REFERENCE, apart["least_correlation"])
        ran = unit["plan"].get("operations")
        words += ", " + (", ".join("{} {}".format(n, k) for k, n in ran.items()) if ran else "no compute plan")
        notes.append(words)
    return notes


def check(folder, runs, depths=None):
    """Everything, as JSON values. Raises LacksError; RuntimeError where Core ML does not take the package."""
    ct, np, pictures = libraries()
    contract, images, least = read_export(np, folder)
    opened, maps = [], {}
    for name in UNITS:
        try:
            opened.append(Unit(ct, pictures, name, folder / contract["artifact"], contract))
        except Exception as error:  # whatever coremltools raises is its word on the package
            raise RuntimeError("Core ML cannot load it for {}: {}".format(name, error)) from error
    for unit in opened:
        maps[unit.name] = [unit.run(np, pixels, keep=False) for _, pixels, _ in images]
        for _ in range(WARM_UP):
            unit.run(np, images[0][1])
        unit.forget()
    for turn in range(runs):
        for unit in opened if turn % 2 == 0 else opened[::-1]:
            unit.run(np, images[0][1])
    units = {}
    for unit in opened:
        split = {name: percentiles(np, values) for name, values in unit.times.items()}
        against_float = [compare(np, d, e) for d, (_, _, e) in zip(maps[unit.name], images)]  # noqa: B905
        against_cpu = [compare(np, d, e) for d, e in zip(maps[unit.name], maps[REFERENCE])]  # noqa: B905
        units[unit.name] = {
            "load_s": unit.load_s,
            "vs_float": worst(against_float),
            "vs_cpu": worst(against_cpu),
            "latency": dict(split["infer"], n=runs, pre=split["pre"], post=split["post"]),
            "plan": placement(ct, unit.model, unit.name),
        }
    if depths is not None:
        np.save(str(depths), np.stack(maps[DEFAULT]).astype("<f4"))
    status, detail = judge(units, least)
    return {
        "status": status,
        "detail": detail,
        "coreml": "coremltools {}, macOS {}".format(ct.__version__, platform.mac_ver()[0]),
        "machine": platform.machine(),
        "precision": contract["precision"],
        "build_s": units[DEFAULT]["load_s"],
        "latency": units[DEFAULT]["latency"],
        "units": units,
        "images": [name for name, _, _ in images],
        "notes": notes_of(units),
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent, help="the export")
    parser.add_argument("--runs", type=int, default=30, help="timed predictions of each unit")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    parser.add_argument("--depths", type=Path, help="keep the maps of the golden inputs, (n, h, w) float32, of ALL")
    options = parser.parse_args(arguments)
    try:
        result = check(options.folder, options.runs, options.depths)
    except LacksError as error:
        result = {"status": "not_measured", "detail": str(error)}
    except RuntimeError as error:
        result = {"status": "failed", "detail": str(error), "stage": "load"}
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    if result["status"] == "not_measured":
        return 4
    if result["status"] == "failed":
        return 1 if result.get("stage") == "load" else 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
