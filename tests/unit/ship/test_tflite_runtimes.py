"""A .tflite export in devices' runtimes: `tflite_runtime` in an environment of its own, threads, weight cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import datk.targets.tflite
from datk.artifact.manifest import read_manifest
from datk.targets import get

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PRECISIONS = get("tflite").precisions
SCRIPT = Path(datk.targets.tflite.__file__).parent / "device" / "run_tflite.py"
OLD = ("tflite-runtime==2.14.0", "numpy<2")
"""The last release of tflite-runtime (October 2023); it fails to import beside NumPy 2."""


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, exporter: Callable[..., Path]) -> Path:
    """A run with a tiny net in every precision of tflite."""
    section = {"name": "tflite", "precisions": list(PRECISIONS), "input_size": "70x98"}
    return exporter(tmp_path_factory.mktemp("runs") / "ship", checkpoint, section)


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with tflite_runtime and NumPy 1 alone; skips where no wheel of it is to be had."""
    folder = tmp_path_factory.mktemp("tflite-runtime")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--only-binary", ":all:", "-q", *OLD]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no wheel of {OLD[0]} for this Python: {done.stderr.strip().splitlines()[-1]}")
    return python


def run(python: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([python, *words], capture_output=True, text=True, env=environment)


def test_what_tflite_runtime_has_no_kernel_for_is_refused_and_the_manifest_says_so(
    exports: Path, old_python: Path
) -> None:
    """Loudly: with those weights unpacked the file loads, and the map is 0.6 times the right one."""
    folder = exports / "50-export-tflite-int8-dynamic"
    assert read_manifest(folder).checks["runtime"]["runs_in"] == ["ai-edge-litert"]
    done = run(old_python, folder / "verify.py")
    assert done.returncode == 3 and "cannot load it" in done.stdout and "TRANSPOSE_CONV" in done.stdout, done


@pytest.mark.parametrize("precision", [p for p in PRECISIONS if p != "int8-dynamic"])
def test_kit_and_verify_hold_in_tflite_runtime(exports: Path, old_python: Path, precision: str) -> None:
    folder = exports / f"50-export-tflite-{precision}"
    assert read_manifest(folder).checks["runtime"]["runs_in"] == ["ai-edge-litert", "tflite-runtime"]
    done = run(old_python, folder / "kits/python/golden_test.py")
    assert done.returncode == 0 and "on 3 photographs" in done.stdout, done
    done = run(old_python, folder / "verify.py", "--json")
    checks = json.loads(done.stdout)
    assert done.returncode == 0 and sum(c["name"].startswith("golden ") for c in checks) == 6, done


def test_threads_and_weight_cache_change_no_answer_and_the_cache_is_used_again(exports: Path, tmp_path: Path) -> None:
    """The kit's app, with one thread, with two, and with XNNPACK's weights from a file."""
    pytest.importorskip("ai_edge_litert.compiled_model", reason="this ai-edge-litert has no CompiledModel")
    folder = exports / "50-export-tflite-fp16"
    program = (
        "import sys, json, numpy as np; sys.path.insert(0, sys.argv[1] + '/kits/python')\n"
        "import depth_app, golden_test\n"
        "photo = golden_test.read_ppm(depth_app.EXPORT / 'golden/kodak_0001.ppm')\n"
        "depth_app.DepthApp(**json.loads(sys.argv[2])).depth(photo).tofile(sys.argv[3])\n"
    )
    cache = tmp_path / "cache"
    answers, stamps = [], []
    for settings in ({"threads": 1}, {"threads": 2}, {"weight_cache": str(cache)}, {"weight_cache": str(cache)}):
        out = tmp_path / "depth.f32"
        done = run(Path(sys.executable), "-c", program, folder, json.dumps(settings), out)
        assert done.returncode == 0, done
        answers.append(np.fromfile(out, "<f4"))
        stamps.append([(p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in cache.glob("*")])
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], rtol=1e-4)
    assert not stamps[1] and len(stamps[2]) == 1 and stamps[2][0][2] > 1e6, stamps
    assert stamps[3] == stamps[2], "the second start packed the weights again"


def test_the_device_script_answers_the_same_from_a_weight_cache_that_it_writes_once(
    exports: Path, tmp_path: Path
) -> None:
    """run_tflite.py, as it is copied to a device: without a cache, writing one, and starting from it."""
    pytest.importorskip("ai_edge_litert.compiled_model", reason="this ai-edge-litert has no CompiledModel")
    images, cache = tmp_path / "images", tmp_path / "model.xnnpack"
    images.mkdir()
    np.save(images / "a.npy", np.random.default_rng(0).integers(0, 256, (70, 98, 3), dtype=np.uint8))
    answers, stamps = [], []
    for number, words in enumerate(([], ["--weight-cache", cache], ["--weight-cache", cache])):
        out = tmp_path / str(number)
        model = exports / "50-export-tflite-fp16" / "model.tflite"
        done = run(Path(sys.executable), SCRIPT, model, images, "--threads", "1", "--out", out, *words)
        assert done.returncode == 0 and json.loads(done.stdout)["runtime"] == "ai-edge-litert", done
        answers.append(np.load(out / "a.npy"))
        stamps.append((cache.stat().st_mtime_ns, cache.stat().st_size) if cache.exists() else None)
    assert answers[0].shape == (70, 98) and answers[0].std() > 0
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], rtol=1e-4)
    assert stamps[0] is None and stamps[1] == stamps[2], "the second start packed the weights again"
    assert stamps[1] is not None and stamps[1][1] > 1e6


def test_the_device_script_says_which_runtime_a_weight_cache_needs(
    exports: Path, old_python: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", np.zeros((70, 98, 3), np.uint8))
    model = exports / "50-export-tflite-fp16" / "model.tflite"
    done = run(old_python, SCRIPT, model, tmp_path, "--weight-cache", tmp_path / "cache")
    assert done.returncode == 4 and "pip install ai-edge-litert" in done.stderr, done
    assert run(old_python, SCRIPT, model, tmp_path).returncode == 0
