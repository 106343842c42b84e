"""kits/: code for an app, generated from the contract, with the golden test that catches the usual mistakes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datk.artifact.files import write_text
from datk.artifact.verify import GOLDEN
from datk.depth.io_spec import Contract

FOLDER = "kits"
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Kit:
    """One language."""

    folder: str
    files: tuple[tuple[str, str], ...]
    """(template, file in the kit's folder)."""
    state: str
    """Whether it is built and run in datk's own tests."""
    test: str
    """The golden test's command line, typed in the kit's folder."""


def _files(folder: str, *names: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{folder}/{name}.j2", name) for name in names)


RUN = "built and run in datk's tests"
PYTHON = Kit("python", _files("python", "depth_app.py", "golden_test.py"), RUN, "python3 golden_test.py")
ROS2 = Kit("ros2", _files("ros2", "depth_node.py"), "not run here", "python3 ../python/golden_test.py")
KOTLIN = Kit("kotlin", _files("kotlin", "DepthApp.kt", "GoldenTest.kt"), "not compiled here", "gradle connectedCheck")
SWIFT = Kit(
    "swift",
    _files(
        "swift",
        "Package.swift",
        "Sources/DepthApp/DepthApp.swift",
        "Tests/DepthAppTests/GoldenTests.swift",
    ),
    "not compiled here",
    "EXPORT=../.. swift test",
)


def _cpp(runtime: str, build: str = "CMakeLists.txt") -> Kit:
    """build: the template of its CMakeLists.txt."""
    names = ("depth_app.hpp", f"runtime_{runtime}.hpp", "golden_test.cpp")
    return Kit("cpp", (*_files("cpp", *names), (f"cpp/{build}.j2", "CMakeLists.txt")), RUN, "build/golden_test ../..")


KITS: dict[str, tuple[Kit, ...]] = {
    ".tflite": (PYTHON, _cpp("litert"), KOTLIN),
    ".onnx": (PYTHON, _cpp("onnxruntime"), ROS2),
    ".mlpackage": (SWIFT,),
    ".openvino": (PYTHON, _cpp("openvino", "CMakeLists_openvino.txt")),
    ".pte": (PYTHON, _cpp("executorch", "CMakeLists_executorch.txt")),
}
"""By the artifact's ending; an artifact of another ending gets none."""
RUNTIMES = {
    ".tflite": {"runtime": "ai-edge-litert", "runtime_library": "libLiteRt.so", "runtime_header": "runtime_litert.hpp"},
    ".onnx": {
        "runtime": "onnxruntime",
        "runtime_library": "libonnxruntime.so",
        "runtime_header": "runtime_onnxruntime.hpp",
    },
    ".openvino": {
        "runtime": "openvino",
        "runtime_library": "libopenvino_c.so",
        "runtime_header": "runtime_openvino.hpp",
    },
    ".pte": {
        "runtime": "executorch (which brings torch)",
        "runtime_library": "libexecutorch.so",
        "runtime_header": "runtime_executorch.hpp",
    },
}


def write_kits(out: Path, contract: Contract) -> list[str]:
    """Render the kits of an artifact's format into out/kits/, after out/golden/; returns the kits' names."""
    suffix = Path(str(contract.artifact)).suffix
    kits = KITS.get(suffix, ())
    golden = json.loads((out / GOLDEN).read_text(encoding="utf-8"))
    if not kits or golden["no_artifact_results"]:
        return []
    values = _values(contract, golden, suffix)
    for kit in kits:
        for template, name in kit.files:
            write_text(out / FOLDER / kit.folder / name, _render(template, values))
    write_text(out / FOLDER / "README.md", _render("README.md.j2", values | {"kits": kits}))
    return [kit.folder for kit in kits]


def _values(contract: Contract, golden: dict[str, Any], suffix: str) -> dict[str, Any]:
    h, w = contract.input_size
    return {
        "artifact": contract.artifact,
        "suffix": suffix,
        "height": h,
        "width": w,
        "sizes": [b.input_size for b in contract.buckets] or [(h, w)],
        "entries": [b.entry for b in contract.buckets if b.entry],
        "input_name": contract.input.name,
        "output_name": contract.output.name,
        "output_scale": contract.output.scale,
        "output_zero_point": contract.output.zero_point,
        "depth_kind": str(contract.depth_kind),
        "larger_is": contract.larger_is,
        "names": [image["name"] for image in golden["images"]],
        **golden["tolerance"]["app"],
        **RUNTIMES.get(suffix, {}),
    }


def _render(template: str, values: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        autoescape=False,
    )
    return environment.get_template(template).render(values)
