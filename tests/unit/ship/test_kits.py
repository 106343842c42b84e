"""The integration kits: right as generated, and their golden test names each mistake an app can make."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datk.artifact.manifest import read_manifest
from datk.depth.buckets import choose_bucket
from datk.depth.preprocess import resize_output
from datk.pipeline.verifying import verify_export

PHOTO = st.tuples(st.integers(1, 2000), st.integers(1, 2000))
SIZES = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=5)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kit(onnx_export: Path) -> tuple[ModuleType, ModuleType]:
    """(depth_app, golden_test) of the ONNX export."""
    return load(onnx_export / "kits/python/depth_app.py"), load(onnx_export / "kits/python/golden_test.py")


def test_the_python_kit_passes_its_golden_test_and_leaves_the_folder_whole(onnx_export: Path) -> None:
    done = subprocess.run([sys.executable, onnx_export / "kits/python/golden_test.py"], capture_output=True, text=True)
    assert done.returncode == 0 and "passed" in done.stdout and "on 3 photographs" in done.stdout, done
    assert not [c for c in verify_export(onnx_export, run=False) if c.status == "failed"]


def letterboxed(app: ModuleType, photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    scale = min(size[0] / photo.shape[0], size[1] / photo.shape[1])
    small = app.resize_cubic(photo, (round(photo.shape[0] * scale), round(photo.shape[1] * scale)))
    out = np.full((*size, 3), 127, np.uint8)
    out[: small.shape[0], : small.shape[1]] = small
    return out


MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
MISTAKES: dict[str, tuple[str, str, Callable]] = {
    "bgr": ("prepare", "red and blue are swapped", lambda app, image, photo: image[..., ::-1]),
    "normalised": (
        "prepare",
        "normalises inside itself",
        lambda app, image, photo: ((image / 255 - MEAN) / STD).astype(np.float32),
    ),
    "normalised, then 8-bit": (
        "prepare",
        "normalised before it was made 8-bit",
        lambda app, image, photo: np.clip((image / 255 - MEAN) / STD, 0, 255).astype(np.uint8),
    ),
    "0..1": ("prepare", "scaled to 0..1", lambda app, image, photo: (image / 255).astype(np.float32)),
    "letterbox": ("prepare", "letterbox, a crop", lambda app, image, photo: letterboxed(app, photo, image.shape[:2])),
    "crop": (
        "prepare",
        "letterbox, a crop",
        lambda app, image, photo: app.resize_cubic(photo[:200, :200], image.shape[:2]),
    ),
    "channels first": ("prepare", "channels last", lambda app, image, photo: image.transpose(2, 0, 1)),
    "sign": ("depth", "the sign is flipped", lambda app, depth, photo: -depth),
    "inverted": ("depth", "the sign is flipped", lambda app, depth, photo: 1 / (depth + 0.1)),
    "upside down": ("depth", "turned or mirrored", lambda app, depth, photo: depth[::-1]),
    "nan": ("depth", "nan or inf", lambda app, depth, photo: depth * np.nan),
}


def assert_named(kit: tuple[ModuleType, ModuleType], export: Path, mistake: str) -> None:
    """The kit's app with one method made wrong fails the kit's golden test on every photograph, in the right words."""
    app, golden = kit
    method, words, wrong = MISTAKES[mistake]

    class Wrong(app.DepthApp):
        """The right app but for one method."""

    right = getattr(app.DepthApp, method)
    setattr(Wrong, method, lambda self, photo: wrong(app, right(self, photo), photo))
    problems, judged = golden.problems_of(Wrong(export), export)
    assert judged == 3 and len(problems) == 3, mistake
    assert all(words in p for p in problems), problems


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_app_with_one_mistake_fails_and_the_mistake_is_named(kit, onnx_export: Path, mistake: str) -> None:
    assert_named(kit, onnx_export, mistake)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_app_for_litert_with_one_mistake_fails_too(tflite_export: Path, mistake: str) -> None:
    kit = load(tflite_export / "kits/python/depth_app.py"), load(tflite_export / "kits/python/golden_test.py")
    assert kit[1].problems_of(kit[0].DepthApp(tflite_export), tflite_export) == ([], 3)
    assert_named(kit, tflite_export, mistake)


def test_an_app_that_answers_at_the_artifacts_size_is_judged_too(kit, onnx_export: Path) -> None:
    app, golden = kit

    class Small(app.DepthApp):
        def depth(self, photo: np.ndarray) -> np.ndarray:
            return cv2.resize(super().depth(photo), (98, 70))

    assert golden.problems_of(Small(onnx_export), onnx_export) == ([], 3)


@given(PHOTO, SIZES)
def test_the_kit_chooses_the_bucket_that_datk_chooses(kit, photo, sizes) -> None:  # type: ignore[no-untyped-def]
    assert kit[0].choose_bucket(photo, sizes) == choose_bucket(photo, sizes).bucket


@pytest.mark.parametrize(("old", "new"), [((40, 60), (98, 70)), ((120, 90), (42, 56)), ((33, 47), (33, 47))])
def test_the_kit_resizes_as_datk_does(kit, old: tuple[int, int], new: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*old, 3), dtype=np.uint8)
    theirs = cv2.resize(image, new[::-1], interpolation=cv2.INTER_CUBIC)
    assert np.abs(kit[0].resize_cubic(image, new).astype(int) - theirs).max() <= 1
    depth = image[..., 0].astype(np.float32)
    np.testing.assert_allclose(kit[0].resize_bilinear(depth, new), resize_output(depth, new), rtol=1e-6)


def build(folder: Path, library: Path, edits: dict[str, tuple[str, str]], *flags: str) -> Path:
    """Compile the C++ kit in a copy, with one text replaced in some of its files."""
    for name, (old, new) in edits.items():
        text = (folder / name).read_text()
        assert text.count(old) == 1, (name, old)
        (folder / name).write_text(text.replace(old, new))
    program, links = folder / "golden_test", folder / "lib"
    links.mkdir()
    for name in (library.name, "libonnxruntime.so.1"):  # the wheel lacks the link that its file's own name asks for
        (links / name).symlink_to(library)
    line = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "golden_test.cpp", "-o", str(program), *flags]
    line += [str(links / library.name), f"-Wl,-rpath,{links}", f"-Wl,-rpath,{library.parent}"]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def library_of(package: str, pattern: str) -> Path:
    """A shared library out of an installed wheel."""
    spec = importlib.util.find_spec(package)
    roots = list(spec.submodule_search_locations or ()) if spec else []
    found = sorted(path for root in roots for path in Path(root).rglob(pattern))
    if not found or shutil.which("g++") is None:
        pytest.skip(f"no g++, or no {pattern} in the package {package}")
    return found[0]


CHANNEL, ANSWER = "out.pixels[(size_t(y) * width + x) * 3 + c]", "Correlation(depth.values, golden);"
SWAPPED = CHANNEL.replace("+ c", "+ 2 - c")
ROUNDED = "std::clamp(std::nearbyint(sum), 0.0f, 255.0f)"
NORMALISED = "std::clamp((sum / 255 - 0.45f) / 0.225f, 0.0f, 255.0f)"
STRETCH = "{ return ResizeCubic(photo, kHeight, kWidth); }"
CROP = """{
  const int side = std::min(photo.height, photo.width);
  Image middle{side, side, {}};
  for (int y = 0; y < side; ++y) {
    const auto row = photo.pixels.begin() + size_t(y) * photo.width * 3;
    middle.pixels.insert(middle.pixels.end(), row, row + size_t(side) * 3);
  }
  return ResizeCubic(middle, kHeight, kWidth);
}"""
CPP_MISTAKES: dict[str, tuple[dict[str, tuple[str, str]], int, str]] = {
    "none": ({}, 0, "passed"),
    "bgr": ({"depth_app.hpp": (CHANNEL, SWAPPED)}, 3, "red and blue are swapped"),
    "normalised twice": ({"depth_app.hpp": (ROUNDED, NORMALISED)}, 3, "normalised before it was made 8-bit"),
    "stretch": ({"depth_app.hpp": (STRETCH, CROP)}, 3, "a letterbox, a crop"),
    "sign": ({"golden_test.cpp": (ANSWER, f"-{ANSWER}")}, 3, "the sign is flipped"),
}
"""Every mistake the golden tests are for, one wrong app each; "none" is the right one."""


@pytest.mark.parametrize("mistake", CPP_MISTAKES)
def test_the_cpp_kit_for_onnx_runtime(onnx_export: Path, tmp_path: Path, mistake: str) -> None:
    edits, status, words = CPP_MISTAKES[mistake]
    library = library_of("onnxruntime", "libonnxruntime.so*")
    folder = Path(shutil.copytree(onnx_export / "kits/cpp", tmp_path / "cpp"))
    done = subprocess.run([build(folder, library, edits), onnx_export], capture_output=True, text=True)
    assert done.returncode == status and words in done.stdout, done


@pytest.mark.slow
@pytest.mark.parametrize("mistake", CPP_MISTAKES)
@pytest.mark.parametrize("exported", ["tflite_export", "int8_output_export"])
def test_both_kits_for_litert(request: pytest.FixtureRequest, tmp_path: Path, mistake: str, exported: str) -> None:
    tflite_export: Path = request.getfixturevalue(exported)
    edits, status, words = CPP_MISTAKES[mistake]
    library = library_of("ai_edge_litert", "libLiteRt.so")
    folder = Path(shutil.copytree(tflite_export / "kits/cpp", tmp_path / "cpp"))
    done = subprocess.run([build(folder, library, edits), tflite_export], capture_output=True, text=True)
    assert done.returncode == status and words in done.stdout, done
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    test = tflite_export / "kits/python/golden_test.py"
    done = subprocess.run([sys.executable, test], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done
    assert not [c for c in verify_export(tflite_export) if c.status == "failed"]


@pytest.mark.slow
def test_the_cpp_kit_for_litert_packs_its_weights_once(tflite_export: Path, tmp_path: Path) -> None:
    library, cache = library_of("ai_edge_litert", "libLiteRt.so"), tmp_path / "model.xnnpack"
    folder = Path(shutil.copytree(tflite_export / "kits/cpp", tmp_path / "cpp"))
    opened = 'artifact(folder + "/" + depth_app::kArtifact)'
    program = build(folder, library, {"golden_test.cpp": (opened, f'{opened[:-1]}, 2, "{cache}")')})
    stamps = []
    for _ in range(2):
        done = subprocess.run([program, tflite_export], capture_output=True, text=True)
        assert done.returncode == 0, done
        stamps.append((cache.stat().st_mtime_ns, cache.stat().st_size))
    assert stamps[0] == stamps[1] and stamps[0][1] > 1e6


@pytest.mark.slow
@pytest.mark.parametrize("mistake", CPP_MISTAKES)
def test_both_kits_for_executorch(executorch_export: Path, tmp_path: Path, mistake: str) -> None:
    edits, status, words = CPP_MISTAKES[mistake]
    library = library_of("executorch", "libexecutorch.so")
    include = library.parents[1] / "include"
    flags = [f"-isystem{include}", f"-isystem{include}/executorch/runtime/core/portable_type/c10", "-Wl,--no-as-needed"]
    flags += ["-DC10_USING_CUSTOM_GENERATED_MACROS", "-DET_EVENT_TRACER_ENABLED"]
    flags += [str(library.parent / f"libexecutorch_{part}.so") for part in ("kernels_optimized", "backend_xnnpack")]
    folder = Path(shutil.copytree(executorch_export / "kits/cpp", tmp_path / "cpp"))
    done = subprocess.run([build(folder, library, edits, *flags), executorch_export], capture_output=True, text=True)
    assert done.returncode == status and words in done.stdout, done
    test = executorch_export / "kits/python/golden_test.py"
    done = subprocess.run([sys.executable, test], capture_output=True, text=True)
    assert done.returncode == 0, done
    done = subprocess.run([sys.executable, executorch_export / "verify.py"], capture_output=True, text=True)
    assert done.returncode == 0, done


@pytest.mark.slow
@pytest.mark.parametrize("mistake", CPP_MISTAKES)
def test_both_kits_for_openvino(openvino_export: Path, tmp_path: Path, mistake: str) -> None:
    edits, status, words = CPP_MISTAKES[mistake]
    library = library_of("openvino", "libopenvino_c.so*")
    flags = [f"-isystem{library.parents[1] / 'include'}", "-Wl,--disable-new-dtags"]  # its libraries name each other
    folder = Path(shutil.copytree(openvino_export / "kits/cpp", tmp_path / "cpp"))
    done = subprocess.run([build(folder, library, edits, *flags), openvino_export], capture_output=True, text=True)
    assert done.returncode == status and words in done.stdout, done
    test = openvino_export / "kits/python/golden_test.py"
    done = subprocess.run([sys.executable, test], capture_output=True, text=True)
    assert done.returncode == 0, done
    done = subprocess.run([sys.executable, openvino_export / "verify.py"], capture_output=True, text=True)
    assert done.returncode == 0, done


@pytest.mark.slow
@pytest.mark.parametrize(("format_", "package"), [("openvino", "cmake"), ("executorch", "share/cmake")])
def test_the_cpp_kit_is_built_by_its_own_cmake_lines(
    request: pytest.FixtureRequest, tmp_path: Path, format_: str, package: str
) -> None:
    """With the package's own CMake files, as the kit's CMakeLists.txt says to."""
    export: Path = request.getfixturevalue(f"{format_}_export")
    spec = importlib.util.find_spec(format_)
    if spec is None or not spec.submodule_search_locations or shutil.which("cmake") is None:
        pytest.skip(f"no cmake, or no package {format_}")
    folder = Path(shutil.copytree(export / "kits/cpp", tmp_path / "cpp"))
    variable = "OpenVINO_DIR" if format_ == "openvino" else "executorch_DIR"
    assert f"-D {variable}=$P/{package}" in (folder / "CMakeLists.txt").read_text()
    where = Path(spec.submodule_search_locations[0]) / package
    for words in (["-B", "build", "-D", f"{variable}={where}"], ["--build", "build"]):
        done = subprocess.run(["cmake", *words], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done
    done = subprocess.run([folder / "build/golden_test", export], capture_output=True, text=True)
    assert done.returncode == 0 and "passed" in done.stdout, done


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_app_for_openvino_with_one_mistake_fails_too(openvino_export: Path, mistake: str) -> None:
    kit = load(openvino_export / "kits/python/depth_app.py"), load(openvino_export / "kits/python/golden_test.py")
    assert_named(kit, openvino_export, mistake)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_app_for_executorch_with_one_mistake_fails_too(executorch_export: Path, mistake: str) -> None:
    kit = load(executorch_export / "kits/python/depth_app.py"), load(executorch_export / "kits/python/golden_test.py")
    assert_named(kit, executorch_export, mistake)


def test_what_was_not_compiled_says_so(onnx_export: Path) -> None:
    kits = read_manifest(onnx_export).facts["kits"]
    assert kits == ["python", "cpp", "ros2"]
    table = (onnx_export / "kits/README.md").read_text()
    assert "| `ros2/` | not run here |" in table and "| `cpp/` | built and run in datk's tests |" in table
    assert "{{" not in "".join(p.read_text() for p in (onnx_export / "kits").rglob("*") if p.is_file())
    compile((onnx_export / "kits/ros2/depth_node.py").read_text(), "depth_node.py", "exec")


@pytest.mark.parametrize("suffix", [".tflite", ".mlpackage"])
def test_kotlin_and_swift_are_rendered_whole_and_marked(suffix: str, tmp_path: Path, onnx_export: Path) -> None:
    from datk.depth.io_spec import Contract
    from datk.pipeline.ship.kits import write_kits

    shutil.copytree(onnx_export / "golden", tmp_path / "golden")
    contract = Contract.model_validate_json((onnx_export / "contract.json").read_text())
    names = write_kits(tmp_path, contract.model_copy(update={"artifact": f"model{suffix}"}))
    language = "kotlin" if suffix == ".tflite" else "swift"
    assert language in names
    for path in (tmp_path / "kits" / language).rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert "NOT COMPILED HERE" in text and "{{" not in text and "{%" not in text, path
            assert text.count("{") == text.count("}") and text.count("(") == text.count(")"), path
