#!/usr/bin/env python3
"""Build the engine on this device and check it against golden inputs. Prints JSON.

    python3 build_and_check.py [--plan build_plan.json] [--rebuild] [--runs 50] [--lock-clocks] [--json RESULT.json]
                                [--depths MAPS.npy] [--layers] [--inspect ENGINE.json] [--frame 720x1280]

Needs only TensorRT's Python package (JetPack brings it), NumPy and the .py files beside it; Python 3.8 or newer. Reads
build_plan.json, golden.npz and the .onnx file that the plan has for this TensorRT, all beside it, and writes the
engine and its timing cache there. --layers: when the answers are wrong, find_layer.py looks for the first wrong layer.
--frame: the app's camera, whose
frames are resized to the engine's input and the map back, timed beside copies and inference where OpenCV is here.
Where tegrastats is found, it is read while the engine is timed. --lock-clocks (root) sets the clocks to
their highest with jetson_clocks for the measurement and restores them however it ends.
Exit status: 0 passed, 3 the engine's answers are wrong, 4 TensorRT or a GPU is missing, 1 the build failed.
"""

# Runs on devices, unpackaged and with Python 3.8: checked by its own tests rather than by strict typing.
# mypy: disallow_untyped_defs=False, disallow_untyped_calls=False, check_untyped_defs=False

import argparse
import hashlib
import json
import sys
import time
import zipfile
from pathlib import Path

try:
    import camera_frame  # type: ignore[import-not-found]  # beside it on the device
    import numpy as np
    from board_readings import locked_clocks, tegrastats  # type: ignore[import-not-found]
    from tensorrt_engine import Cuda, Engine, LacksError, build_engine  # type: ignore[import-not-found]
except ImportError as error:
    print(f"build_and_check: {error}: install NumPy, and copy every .py of the export beside this one", file=sys.stderr)
    sys.exit(4)


def line_for(plan, found):
    """The plan's row for a TensorRT version: which file, which flags. Raises LacksError where there is none."""
    version = numbers(found)
    for row in plan["lines"]:
        if numbers(row["least"]) <= version and (row["below"] is None or version < numbers(row["below"])):
            if row["model"] is None:
                raise LacksError(f"for TensorRT {found} this export has no file: {row['why_none']}")
            return row
    newer = [row for row in plan["lines"] if numbers(row["least"]) > version]
    raise LacksError(
        f"TensorRT {found} is older than {newer[0]['least']} ({newer[0]['comes_with']}), and no older line of the plan "
        "is for it"
    )


def numbers(version):
    """Major and minor: what two versions are compared by."""
    return [int(part) for part in (version + ".0").split(".")[:2]]


def suspicion(plan, version):
    """What is known against this TensorRT, in words; empty when nothing is."""
    if ".".join(version.split(".")[:2]) not in plan["suspect"]:
        return ""
    rows = [f"{row['symptom']} ({', '.join(row['sources'])}); {row['advice']}" for row in plan["known_bad"]]
    return f"TensorRT {version} is reported to miscompute such nets: {'; '.join(rows)}"


def compare(depth, expected):
    """Correlation and largest error relative to the expected map's largest value; nan anywhere counts as wrong."""
    if not np.isfinite(depth).all():
        return {"correlation": -1.0, "max_error_rel": None, "detail": "the engine's answer holds nan or inf"}
    largest = float(np.abs(expected).max()) or 1.0
    error = float(np.abs(depth - expected).max()) / largest
    if depth.std() == 0 or expected.std() == 0:
        correlation = 1.0 if error < 1e-3 else -1.0
    else:
        correlation = float(np.corrcoef(depth.ravel(), expected.ravel())[0, 1])
    return {"correlation": correlation, "max_error_rel": error}


def judge(images, plan, known):
    """(status, detail) from the golden comparisons. known: what is known against this TensorRT."""
    if not images and known:
        return "failed", "no golden inputs beside the plan, without which this TensorRT is not believed"
    if not images:
        return "not_measured", "no golden inputs beside the plan: built and run, not compared"
    worst = min(image["correlation"] for image in images)
    least = plan["least_correlation"]
    detail = f"least correlation with the float32 answers {worst:.6f} over {len(images)} images, needed {least:.4f}"
    return ("passed" if worst >= least else "failed"), detail


def latency(engine, size, runs, frame):
    """Milliseconds after 10 warm-up rounds: the inference alone, and beside it each step around it.

    pre and post: resizing of a camera frame to `size` and of the map to the frame, None where nothing here does it;
    h2d and d2h: the copies to and from the device.
    """
    pre, post, around = camera_frame.steps(size, frame)
    image = pre() if pre else np.zeros((*size, 3), np.uint8)
    times = {name: [] for name in ("pre", "h2d", "infer", "d2h", "post")}
    for round_ in range(10 + runs):
        kept = times if round_ >= 10 else {name: [] for name in times}
        fed = timed(kept["pre"], pre) if pre else image
        timed(kept["h2d"], engine.load, fed)
        timed(kept["infer"], engine.run)
        depth = timed(kept["d2h"], engine.depth)
        if post:
            timed(kept["post"], post, depth)
    split = {name: percentiles(values) if values else None for name, values in times.items()}
    infer = split.pop("infer")
    return dict(infer, n=runs, around=around, **split)


def timed(times, step, *arguments):
    """What step answers; its milliseconds are appended to times."""
    start = time.perf_counter()
    answer = step(*arguments)
    times.append((time.perf_counter() - start) * 1e3)
    return answer


def percentiles(times):
    """Median, 90th and 99th percentile in milliseconds."""
    return {f"p{p}_ms": float(np.percentile(times, p)) for p in (50, 90, 99)}


def read_golden(folder, plan):
    """[(image, expected depth)] beside the plan; empty when none were shipped."""
    if not plan["golden"] or not (folder / plan["golden"]).is_file():
        return []
    with np.load(folder / plan["golden"], allow_pickle=False) as stored:
        return list(zip(stored["image"], stored["depth"].astype(np.float64)))  # noqa: B905 (Python 3.8)


def engine_bytes(trt, folder, plan, row, rebuild, detailed):
    """The engine, built unless one of this very model lies there. Returns (bytes, build seconds or None)."""
    model = folder / row["model"]
    if not model.is_file():
        raise LacksError(f"{model.name}, which TensorRT {trt.__version__} builds from, is not beside the plan")
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    if digest != row["model_sha256"]:
        raise RuntimeError(f"{model.name} is not the model this plan was made for (sha256 {digest})")
    path = folder / plan["engine"]
    made_from = folder / (plan["engine"] + ".made_from")
    key = f"{digest} {trt.__version__}"
    if not rebuild and path.is_file() and made_from.is_file() and made_from.read_text() == key:
        return path.read_bytes(), None
    start = time.perf_counter()
    built, _ = build_engine(trt, row, model, timing_cache(folder, plan), detailed=detailed)
    seconds = time.perf_counter() - start
    part = folder / (plan["engine"] + ".part")
    part.write_bytes(built)
    part.replace(path)
    made_from.write_text(key)
    return built, seconds


def timing_cache(folder, plan):
    return folder / (plan["engine"] + ".timing.cache")


def read_layers(folder, plan):
    """find_layer's module and the samples it compares with. Raises LacksError where the export's files are not here."""
    if plan["layers"] is None:
        raise LacksError("--layers: this export has no layers.npz, as it was made without photographs; export again")
    for name in (plan["layers"], "find_layer.py"):
        if not (folder / name).is_file():
            raise LacksError(f"--layers: {name} is not beside the plan; copy it from the export, or export again")
    sys.path.insert(0, str(folder))
    try:
        import find_layer  # type: ignore[import-not-found]  # lies beside it on the device
    finally:
        sys.path.remove(str(folder))
    try:
        return find_layer, find_layer.Samples(folder / plan["layers"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise LacksError(f"--layers: {plan['layers']} cannot be read ({error}); copy it again") from error


def first_wrong_layer(layers, trt, cuda, folder, plan, row, engine, image, seconds, certain):
    """What find_layer tells of an engine whose answers are wrong. certain: that of this very image is."""
    module, samples = layers

    def probe(names):
        if not names:
            engine.load(image)
            engine.run()
            return {plan["output"]["name"]: engine.depth()}, []
        built, absent = build_engine(trt, row, folder / row["model"], timing_cache(folder, plan), names)
        other = Engine(trt, cuda, built, plan, [name for name in names if name not in absent])
        try:
            other.load(image)
            other.run()
            return dict(other.tensors(), **{plan["output"]["name"]: other.depth()}), absent
        finally:
            other.close()

    try:
        return module.find(samples, plan["precision"], probe, seconds, certain)
    except RuntimeError as error:
        return dict(module.UNKNOWN, detail=f"with further outputs: {error}")


def check(plan_path, rebuild, runs, frame, lock_clocks=False, depths=None, layers_seconds=None, inspect=None):
    """Build, run, compare. Returns the result as JSON values. Raises LacksError.

    frame: (height, width) of the app's camera. depths: where to keep the engine's maps of the golden inputs.
    layers_seconds: how long to look for the first wrong layer where they are wrong; None: not at all. inspect: where to
    write TensorRT's own account of the engine.
    """
    plan = json.loads(plan_path.read_text())
    folder = plan_path.resolve().parent
    layers = None if layers_seconds is None else read_layers(folder, plan)
    try:
        import tensorrt as trt
    except ImportError as error:
        raise LacksError(f"TensorRT's Python package is missing ({error})") from error
    row = line_for(plan, trt.__version__)
    known = suspicion(plan, trt.__version__)
    if known:
        print("warning: " + known, file=sys.stderr)
    cuda = Cuda()
    serialized, build_s = engine_bytes(trt, folder, plan, row, rebuild, inspect is not None)
    engine = Engine(trt, cuda, serialized, plan)
    found = None
    try:
        inspected = None if inspect is None else engine.inspected(trt, inspect)
        images, maps = [], []
        golden = read_golden(folder, plan)
        for image, expected in golden:
            engine.load(image)
            engine.run()
            maps.append(engine.depth())
            images.append(compare(maps[-1], expected))
        if depths is not None and maps:
            np.save(str(depths), np.stack(maps).astype(np.float32))
        with locked_clocks(lock_clocks) as clocks, tegrastats() as board:
            timing = latency(engine, plan["input"]["shape"][1:3], runs, frame)
        status, detail = judge(images, plan, known)
        if layers is not None and images and status == "failed":
            first, certain = golden[0][0], images[0]["correlation"] < plan["least_correlation"]
            found = first_wrong_layer(layers, trt, cuda, folder, plan, row, engine, first, layers_seconds, certain)
            detail += "; " + found["detail"]
        elif layers is not None:
            found = layers[0].NOTHING if images else layers[0].UNKNOWN
    finally:
        engine.close()
    return {
        "status": status,
        "detail": "; ".join(words for words in (detail, known) if words),
        "tensorrt": trt.__version__,
        "precision": plan["precision"],
        "built_from": row["model"],
        "builder_flags": row["flags"],
        "engine_bytes": len(serialized),
        "inspected": inspected,
        "build_s": build_s,
        "latency": timing,
        "clocks": clocks,
        "board": board,
        "images": images,
        "layers": found,
    }


def frame_size(text):
    """720x1280 as (720, 1280)."""
    height, width = (int(side) for side in text.split("x"))
    if min(height, width) < 2:
        raise ValueError(text)
    return height, width


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).resolve().parent
    parser.add_argument("--plan", type=Path, default=here / "build_plan.json")
    parser.add_argument("--rebuild", action="store_true", help="build even when a matching engine lies there")
    parser.add_argument("--runs", type=int, default=50, help="timed inferences")
    parser.add_argument("--frame", type=frame_size, default=(720, 1280), help="the app's camera, HxW: times resizing")
    parser.add_argument("--lock-clocks", action="store_true", help="highest clocks while timing, then as before (root)")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    parser.add_argument("--layers", action="store_true", help="where the answers are wrong, name the first wrong layer")
    parser.add_argument("--layers-seconds", type=float, default=300.0, help="start no build for --layers after these")
    parser.add_argument(
        "--inspect", type=Path, help="write what TensorRT tells of the engine's layers; with --rebuild all"
    )
    parser.add_argument("--depths", type=Path, help="keep the engine's maps of the golden inputs, (n, h, w) float32")
    options = parser.parse_args(arguments)
    try:
        looking = options.layers_seconds if options.layers else None
        result = check(
            options.plan,
            options.rebuild,
            options.runs,
            options.frame,
            options.lock_clocks,
            options.depths,
            looking,
            options.inspect,
        )
    except LacksError as error:
        result = {"status": "not_measured", "detail": str(error)}
    except RuntimeError as error:
        result = {"status": "failed", "detail": str(error), "stage": "build"}
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    if result["status"] == "not_measured":
        return 0 if "latency" in result else 4
    if result["status"] == "failed":
        return 1 if result.get("stage") == "build" else 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
