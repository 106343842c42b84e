"""What may be imported where: light rooms stay light, rooms import downwards, the checkout guards itself."""

from __future__ import annotations

import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import datk

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "toolkit"
HEAVY = ("torch", "nncf", "onnx", "onnxruntime", "coremltools", "litert_torch", "ai_edge_litert", "tensorrt_rtx", "cv2")


def python(code: str, *, cwd: Path = ROOT, path: Path | None = SOURCE) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(path) if path else "", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys\nsys.argv = ['datk', '--help']\nfrom datk.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', [m for m in {HEAVY!r} + ('numpy', 'pydantic') if m in sys.modules])"
    )
    done = python(code)
    assert "LOADED []" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    "room",
    [
        "datk.config.load",
        "datk.depth.preprocess",
        "datk.artifact.manifest",
        "datk.evaluate.metrics",
        "datk.targets",
        "datk.pipeline.build_stage",  # what every process that builds a target starts with
        "datk.cli.running",  # `datk run --dry-run` answers before torch could be loaded
    ],
)
def test_light_rooms_load_no_torch_and_no_sdk(room: str) -> None:
    heavy = tuple(m for m in HEAVY if m != "cv2")
    code = f"import sys, {room}\nimport datk.targets; datk.targets.available()\n"
    done = python(code + f"print('LOADED', [m for m in {heavy!r} if m in sys.modules])")
    assert "LOADED []" in done.stdout, done.stdout + done.stderr


def test_every_module_imports() -> None:
    names = [m.name for m in pkgutil.walk_packages(datk.__path__, "datk.") if ".templates" not in m.name]
    assert len(names) > 100
    skipped = ("device", "select_photos")
    code = "import importlib\n" + "\n".join(
        f"importlib.import_module({n!r})" for n in names if not any(s in n for s in skipped)
    )
    done = python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["train", "targets"])
def test_root_folders_refuse_to_be_top_level_packages(name: str) -> None:
    done = python(f"import {name}", path=None)
    assert done.returncode != 0
    assert f"import datk.{name}, not {name}" in done.stderr


def test_a_checkout_without_symlinks_says_so(tmp_path: Path) -> None:
    (tmp_path / "datk").mkdir()
    shutil.copy(SOURCE / "datk" / "__init__.py", tmp_path / "datk")
    (tmp_path / "datk" / "train").write_text("../../train")
    done = python("import datk", cwd=tmp_path, path=tmp_path)
    assert "lacks its symlinks" in done.stderr and "core.symlinks" in done.stderr
