#!/usr/bin/env python3
"""Check an exported depth model: every file's hash, the contract, the golden results; exit 3 names what is wrong.

    python3 verify.py [FOLDER] [--files-only] [--json]

Needs Python 3.8 with NumPy, and for the golden results the runtime of the artifact (ai-edge-litert or tflite-runtime,
onnxruntime, openvino, executorch, coremltools on macOS). This file stands by itself: `datk export` puts a copy into
every folder it writes, and `datk verify` runs the same code with datk's own runners.
Exit status: 0 all holds, 3 something does not, 4 the runtime is missing, 2 not an export folder.
"""

# Runs in app teams' environments, unpackaged, with Python 3.8: no imports from datk.

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any, Callable, NamedTuple

SUMS = "SHA256SUMS"
SIGNATURES = ("SHA256SUMS.sig",)
CONTRACT = "contract.json"
GOLDEN = "golden/golden.json"
PATCH = 14
NOT_OURS = ("__pycache__", "build", ".build", ".DS_Store")
"""Folders and files that using an export leaves behind: named, not judged."""
MADE_ON_DEVICE = (".engine", ".engine.made_from", ".timing.cache", ".result.json")
"""Endings of what the build script writes on a device."""
SIGNS = {
    "disparity_affine_invariant": "nearer",
    "depth_metric_m": "farther",
    "depth_affine_invariant": "farther",
}

Predict = Callable[[Any], Any]
"""(h, w, 3) uint8 RGB -> (h, w) float32. Its attribute `runtime`, where it has one, names package and version."""


class Check(NamedTuple):
    """One thing looked at."""

    name: str
    status: str
    """passed, failed or not_measured."""
    detail: str
    file: str = ""
    """Relative to the folder; what to look at."""


class Lacks(Exception):
    """The runtime of this artifact is not installed here."""


class Refused(Exception):
    """The runtime that is here cannot load the artifact."""


class NotAnExport(Exception):
    """The folder holds no contract.json or no SHA256SUMS."""


def verify(folder: Path, open_artifact: Callable[[Path, dict[str, Any]], Predict] | None = None) -> list[Check]:
    """Every check of one export folder; open_artifact None: files and contract alone.

    Raises NotAnExport when it is none, Lacks from open_artifact.
    """
    if not (folder / SUMS).is_file() and not (folder / CONTRACT).is_file():
        raise NotAnExport(f"{folder}: no {SUMS} and no {CONTRACT}: not a folder that datk exported")
    checks = check_files(folder)
    contract, found = read_contract(folder)
    checks += found
    if contract is None:
        return checks
    if open_artifact is None:
        return [*checks, Check("golden", "not_measured", "not asked for")]
    if any(c.status == "failed" for c in checks):
        return [*checks, Check("golden", "not_measured", "files or contract are damaged: not run")]
    return checks + check_golden(folder, contract, open_artifact)


def files_below(folder: Path) -> list[str]:
    """Relative names of all files, sorted, without what using an export leaves behind."""
    found = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part in NOT_OURS for part in relative.parts):
            found.append(relative.as_posix())
    return sorted(found)


def render_sums(digests: dict[str, str]) -> str:
    """The text of SHA256SUMS: one `digest  name` a line, sorted by name."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def check_files(folder: Path) -> list[Check]:
    """Every file is listed, every listed file is there with the listed hash, the list itself is whole."""
    try:
        text = (folder / SUMS).read_bytes().decode("utf-8")
        digests = _read_sums(text)
    except OSError as error:
        return [Check("files", "failed", f"no list of files ({error.strerror})", SUMS)]
    except ValueError as error:
        return [Check("files", "failed", f"the list of files is damaged: {error}", SUMS)]
    problems = []
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            problems.append(Check("files", "failed", "missing", name))
        elif sha256_file(path) != digest:
            problems.append(
                Check("files", "failed", f"changed since the export: not the sha256 that {SUMS} lists", name)
            )
    extra = [n for n in files_below(folder) if n not in digests and n != SUMS and n not in SIGNATURES]
    made_here = [n for n in extra if n.endswith(MADE_ON_DEVICE)]
    problems += [Check("files", "failed", "not part of this export", n) for n in extra if n not in made_here]
    if CONTRACT not in digests:
        problems.append(Check("files", "failed", f"does not list {CONTRACT}", SUMS))
    note = f"; {', '.join(made_here)} made on this device" if made_here else ""
    return problems or [Check("files", "passed", f"{len(digests)} files have the hashes listed in {SUMS}{note}", SUMS)]


def _read_sums(text: str) -> dict[str, str]:
    digests = {}
    for number, line in enumerate(text.splitlines(), 1):
        digest, _, name = line.partition("  ")
        parts = name.split("/")
        if len(digest) != 64 or set(digest) - set("0123456789abcdef") or "" in parts or ".." in parts:
            raise ValueError(f"line {number} is not `sha256  name`")
        digests[name] = digest
    if render_sums(digests) != text:
        raise ValueError("it is not in the form it was written in")
    return digests


def sha256_file(path: Path) -> str:
    """Hex digest of one file."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def read_contract(folder: Path) -> tuple[dict[str, Any] | None, list[Check]]:
    """contract.json and what is wrong with it; None when it cannot be used at all."""
    try:
        value = json.loads((folder / CONTRACT).read_text(encoding="utf-8"))
        problems = _contract_problems(value, folder)
    except OSError as error:
        return None, [Check("contract", "failed", f"cannot be read ({error.strerror})", CONTRACT)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return None, [Check("contract", "failed", f"not a contract ({type(error).__name__}: {error})", CONTRACT)]
    if problems:
        return None, [Check("contract", "failed", p, CONTRACT) for p in problems]
    h, w = value["input_size"]
    detail = (
        f"{value['artifact']}: {h}x{w} {value['input']['dtype']} {value['input']['colour_order']} -> "
        f"{value['depth_kind']}, larger is {value['larger_is']}; {value['precision']}"
    )
    return value, [Check("contract", "passed", detail, CONTRACT)]


def _contract_problems(value: dict[str, Any], folder: Path) -> list[str]:
    problems = []
    h, w = value["input_size"]
    if value["schema_version"] != 1:
        problems.append(f"schema version {value['schema_version']}, this script reads 1")
    if h < 1 or w < 1 or h % PATCH or w % PATCH:
        problems.append(f"input_size {h}x{w} is not a multiple of {PATCH}")
    if sorted(value["input"]["shape"]) != sorted([1, h, w, 3]):
        problems.append(f"input shape {value['input']['shape']} is not one RGB image of {h}x{w}")
    count = 1
    for side in value["output"]["shape"]:
        count *= side
    if count != h * w:
        problems.append(f"output shape {value['output']['shape']} is not one map of {h}x{w}")
    if value["input"]["colour_order"] not in ("RGB", "BGR"):
        problems.append(f"colour order {value['input']['colour_order']}")
    if SIGNS.get(value["depth_kind"]) != value["larger_is"]:
        problems.append(f"{value['depth_kind']} with larger_is {value['larger_is']}")
    if not value.get("artifact") or not (folder / value["artifact"]).exists():
        problems.append(f"names the artifact {value.get('artifact')}, which is not here")
    return problems


def check_golden(
    folder: Path, contract: dict[str, Any], open_artifact: Callable[[Path, dict[str, Any]], Predict]
) -> list[Check]:
    """The artifact, run here, against what it and the float net answered when it was exported."""
    try:
        golden = json.loads((folder / GOLDEN).read_text(encoding="utf-8"))
        images = golden["images"]
        problems = [] if images else ["holds no image"]
        if list(golden["input_size"]) != list(contract["input_size"]) or golden["precision"] != contract["precision"]:
            problems.append("belongs to another export: size or precision is not the contract's")
    except (OSError, ValueError, KeyError, TypeError) as error:
        problems = [f"cannot be read ({type(error).__name__}: {error})"]
    if problems:
        return [Check("golden", "failed", p, GOLDEN) for p in problems]
    predict = open_artifact(folder / contract["artifact"], contract)
    checks = []
    for image in images:
        try:
            checks += _check_image(folder, golden, image, predict, contract["artifact"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            checks.append(Check("golden", "failed", f"cannot be used ({type(error).__name__}: {error})", GOLDEN))
    return checks


def _check_image(
    folder: Path, golden: dict[str, Any], image: dict[str, Any], predict: Predict, artifact: str
) -> list[Check]:
    import numpy as np

    size = tuple(image.get("input_size") or golden["input_size"])  # of several sizes in one artifact each has its own
    pixels = read_ppm(folder / image["input"])
    if pixels.shape != (size[0], size[1], 3):
        return [Check("golden", "failed", f"a picture of {pixels.shape[:2]}, expected {size}", image["input"])]
    depth = np.asarray(predict(pixels), dtype=np.float64).reshape(size)
    checks = []
    for what, file in (("float", image["float"]), ("artifact", image["artifact"])):
        if file is None:
            checks.append(Check(f"golden {image['name']}", "not_measured", golden["no_artifact_results"], GOLDEN))
            continue
        expected = np.fromfile(str(folder / file), dtype="<f4").astype(np.float64)
        if expected.size != size[0] * size[1]:
            checks.append(Check("golden", "failed", f"holds {expected.size} values, expected {size}", file))
            continue
        tolerance, who = golden["tolerance"][what], "the float net"
        if what == "artifact":
            tolerance, who = _held_to(golden, getattr(predict, "runtime", None))
        checks.append(_judge(image["name"], who, depth, expected.reshape(size), tolerance, artifact))
    return checks


def _held_to(golden: dict[str, Any], here: str | None) -> tuple[dict[str, float], str]:
    """(tolerance, words) for the artifact's own answers: another runtime, or version of it, rounds in other places."""
    before = golden.get("runtime")
    if before is None or here is None or before == here:
        return golden["tolerance"]["artifact"], "itself at export"
    return golden["tolerance"]["other_runtime"], f"itself at export, by {before}, here {here}"


def _judge(name: str, who: str, depth: Any, expected: Any, tolerance: dict[str, float], artifact: str) -> Check:
    correlation, error = compare(depth, expected)
    least, most = tolerance["min_correlation"], tolerance.get("max_error_rel")
    held = correlation >= least and (most is None or error <= most)
    detail = f"against {who}: correlation {correlation:.6f} (needed {least})" + (
        "" if most is None else f", largest error {error:.2e} of the range's top (allowed {most:g})"
    )
    return Check(f"golden {name}", "passed" if held else "failed", detail, artifact)


def compare(depth: Any, expected: Any) -> tuple[float, float]:
    """(Pearson correlation, max |difference| / max |expected|). nan or inf anywhere counts as (-1, inf)."""
    import numpy as np

    if not np.isfinite(depth).all():
        return -1.0, float("inf")
    error = float(np.abs(depth - expected).max()) / (float(np.abs(expected).max()) or 1.0)
    if depth.std() == 0 or expected.std() == 0:
        return (1.0 if error < 1e-3 else -1.0), error
    return float(np.corrcoef(depth.ravel(), expected.ravel())[0, 1]), error


def read_ppm(path: Path) -> Any:
    """(h, w, 3) uint8 RGB of a binary PPM (P6, maxval 255, no comments), as this folder's pictures are written."""
    import numpy as np

    data = path.read_bytes()
    magic, width, height, largest = data.split(maxsplit=4)[:4]
    if magic != b"P6" or largest != b"255":
        raise ValueError(f"{path}: not a binary PPM of 8 bits")
    size = int(width) * int(height) * 3
    return np.frombuffer(data[len(data) - size :], np.uint8).reshape(int(height), int(width), 3)


def open_with_runtime(path: Path, contract: dict[str, Any]) -> Predict:
    """The artifact in its own runtime on this machine's CPU. Raises Lacks when there is none, Refused by it."""
    openers = {
        ".tflite": _open_tflite,
        ".onnx": _open_onnx,
        ".mlpackage": _open_coreml,
        ".openvino": _open_openvino,
        ".pte": _open_executorch,
    }
    if path.suffix not in openers:
        raise Lacks(f"{path.name}: this script has no runtime for {path.suffix}; run `datk verify`")
    try:
        return openers[path.suffix](path, contract)
    except (ValueError, RuntimeError) as error:
        raise Refused(f"the runtime here cannot load it: {error}") from error


def _module(*names: str) -> Any:
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise Lacks(f"needs one of: {', '.join(n.split('.')[0].replace('_', '-') for n in names)}  (pip install)")


def _open_tflite(path: Path, contract: dict[str, Any]) -> Predict:
    litert = _module("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
    package = litert.__name__.split(".")[0].replace("_", "-")
    interpreter = litert.Interpreter(model_path=str(path))
    entries = {tuple(b["input_size"]): b["entry"] for b in contract.get("buckets", ()) if b.get("entry")}
    if entries:
        runners = {size: interpreter.get_signature_runner(entry) for size, entry in entries.items()}
        source, result = contract["input"]["name"], contract["output"]["name"]
        return _by(package, lambda image: _real(runners[image.shape[:2]](**{source: image[None]})[result], contract))
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def predict(image: Any) -> Any:
        interpreter.set_tensor(source, image[None])
        interpreter.invoke()
        return _real(interpreter.get_tensor(result), contract)

    return _by(package, predict)


def _real(values: Any, contract: dict[str, Any]) -> Any:
    """Values of an output, which an int8 one holds in steps."""
    scale, zero_point = contract["output"].get("scale"), contract["output"].get("zero_point")
    return values if scale is None else (values.astype("float32") - zero_point) * scale


def _by(package: str, predict: Predict) -> Predict:
    """predict, with the name and version of the package that computes it."""
    predict.runtime = f"{package} {importlib.metadata.version(package)}"  # type: ignore[attr-defined]
    return predict


def _open_onnx(path: Path, contract: dict[str, Any]) -> Predict:
    ort = _module("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # as the golden results were computed
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda image: session.run([contract["output"]["name"]], {contract["input"]["name"]: image[None]})[0]


def _open_openvino(path: Path, contract: dict[str, Any]) -> Predict:
    core = _module("openvino").Core()
    as_judged = {"INFERENCE_PRECISION_HINT": "f32", "LP_TRANSFORMS_MODE": False, "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    request = core.compile_model(str(path / "model.xml"), "CPU", as_judged).create_infer_request()
    return lambda image: request.infer([image[None]])[0].copy()


def _open_executorch(path: Path, contract: dict[str, Any]) -> Predict:
    runtime, torch = _module("executorch.runtime"), _module("torch")
    program = runtime.Runtime.get().load_program(path)
    method = program.load_method("forward")

    def predict(image: Any) -> Any:
        (depth,) = method.execute([torch.from_numpy(image.copy()).unsqueeze(0)])
        return depth.numpy().copy()  # the program uses its memory again

    predict.program = program  # type: ignore[attr-defined]  # a method does not keep it alive
    return predict


def _open_coreml(path: Path, contract: dict[str, Any]) -> Predict:
    if sys.platform != "darwin":
        raise Lacks("Core ML predicts on macOS only; `datk verify` has a reference evaluator (needs torch)")
    tools = _module("coremltools").models
    entries = {tuple(b["input_size"]): b["entry"] for b in contract.get("buckets", ()) if b.get("entry")}
    opened = {size: tools.MLModel(str(path), function_name=entry) for size, entry in entries.items()}
    model = None if opened else tools.MLModel(str(path))
    pictures = _module("PIL.Image")
    source, result = contract["input"]["name"], contract["output"]["name"]
    return lambda image: opened.get(image.shape[:2], model).predict({source: pictures.fromarray(image)})[result]


def main(arguments: list[str] | None = None) -> int:
    """Print the checks; the exit status is in the module's description."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).resolve().parent)
    parser.add_argument("--files-only", action="store_true", help="do not run the artifact")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    options = parser.parse_args(arguments)
    try:
        checks = verify(options.folder, None if options.files_only else open_with_runtime)
        status = 3 if any(c.status == "failed" for c in checks) else 0
    except NotAnExport as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Lacks as error:
        checks = [*verify(options.folder), Check("golden", "not_measured", str(error))]
        status = 3 if any(c.status == "failed" for c in checks) else 4
    except Refused as error:
        checks, status = [*verify(options.folder), Check("golden", "failed", str(error), "")], 3
    if options.json:
        print(json.dumps([c._asdict() for c in checks], indent=2))
    else:
        for check in checks:
            print(f"{check.status:>12}  {check.name}: {check.file}: {check.detail}")
    return status


if __name__ == "__main__":
    sys.exit(main())
