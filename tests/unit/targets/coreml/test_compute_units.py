"""compute_units.py, with stand-ins for coremltools and macOS: what it compares, tells and returns. Not run on a Mac."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import datk.targets.coreml
from datk.artifact.files import sha256_file
from datk.depth.io_spec import DepthKind, contract_for
from datk.errors import DataError
from datk.pipeline.farm.engine_stage import judge
from datk.pipeline.runs import Artifact
from datk.pipeline.ship.golden import write_ppm
from datk.targets.coreml.on_device import ANSWER, MAPS, SCRIPT, device_build
from datk.targets.device_build import DeviceAnswer

SOURCE = Path(datk.targets.coreml.__file__).parent / "device" / SCRIPT
STAND_IN = Path(__file__).parents[2] / "farm" / "stand_in_coremltools"
SIZE = (14, 28)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """An export folder as far as the script reads it: the package itself is the stand-in's business."""
    folder = tmp_path / "50-export-coreml-fp16"
    random = np.random.default_rng(0)
    contract = contract_for(
        input_size=SIZE, depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision="fp16", layout="image"
    ).model_copy(update={"artifact": "model.mlpackage"})
    (folder / "model.mlpackage").mkdir(parents=True)
    (folder / "model.mlpackage" / "Manifest.json").write_text("{}")
    (folder / "contract.json").write_text(contract.model_dump_json())
    images = []
    for name in ("a", "b"):
        entry = {"name": name, "input": f"golden/{name}.input.ppm", "float": f"golden/{name}.float.f32"}
        write_ppm(folder / entry["input"], random.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
        random.random(SIZE).astype("<f4").tofile(folder / entry["float"])
        images.append(entry)
    golden = {"images": images, "tolerance": {"float": {"min_correlation": 0.995}}}
    (folder / "golden/golden.json").write_text(json.dumps(golden))
    (folder / SCRIPT).write_bytes(SOURCE.read_bytes())
    return folder


def run(export: Path, *words: str, mac: bool = True, **environment: str) -> tuple[int, dict[str, Any]]:
    known = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment
    known |= {"PYTHONPATH": str(STAND_IN)} if mac else {}
    command = [sys.executable, export / SCRIPT, "--runs", "4", "--json", export / ANSWER, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=known)
    assert json.loads(done.stdout) == json.loads((export / ANSWER).read_text()), done
    return done.returncode, json.loads(done.stdout)


def test_every_unit_is_compared_timed_and_told_where_it_runs(export: Path) -> None:
    code, said = run(export)
    assert (code, said["status"]) == (0, "passed")
    assert list(said["units"]) == ["CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL"]
    for unit in said["units"].values():
        assert unit["vs_float"] == {"least_correlation": pytest.approx(1), "max_error_rel": 0}
        for part in (unit["latency"], unit["latency"]["pre"], unit["latency"]["post"]):
            assert 0 < part["p50_ms"] <= part["p90_ms"] <= part["p99_ms"]
        assert unit["latency"]["n"] == 4
    plan = said["units"]["CPU_AND_NE"]["plan"]
    assert plan["operations"] == {"MLNeuralEngineComputeDevice": 2, "MLCPUComputeDevice": 1}
    assert plan["off_the_neural_engine"] == {"ios17.gather": 1}
    assert plan["estimated_cost"] == {"MLNeuralEngineComputeDevice": 0.5, "MLCPUComputeDevice": 0.25}
    answer = DeviceAnswer.model_validate(said)
    assert answer.latency is not None and answer.latency.pre is not None and len(answer.notes) == 4
    assert "MLNeuralEngineComputeDevice" in answer.notes[2] and "correlation with CPU_ONLY 1.0" in answer.notes[2]


def test_a_unit_that_answers_wrongly_is_named(export: Path) -> None:
    code, said = run(export, STAND_IN_FAULT="ne")
    assert (code, said["status"]) == (3, "failed") and said["detail"].endswith("wrong on CPU_AND_NE, ALL")
    assert said["units"]["CPU_AND_NE"]["vs_cpu"]["least_correlation"] < 0.9
    assert said["units"]["CPU_AND_GPU"]["vs_cpu"]["max_error_rel"] == 0


def test_a_package_that_does_not_load_is_told_in_core_mls_words(export: Path) -> None:
    code, said = run(export, STAND_IN_FAULT="load")
    assert code == 1 and "for CPU_ONLY: Error compiling model: the stand-in refuses" in said["detail"]


def test_what_is_missing_is_exit_4(export: Path) -> None:
    if sys.platform != "darwin":
        code, said = run(export, mac=False)
        assert code == 4 and "macOS only" in said["detail"]
    (export / "golden/golden.json").unlink()
    code, said = run(export)
    assert code == 4 and "copy the whole export" in said["detail"]


def test_the_host_judges_the_maps_that_come_back(export: Path, tmp_path: Path) -> None:
    """As `datk export --device MAC` does: whatever the script calls its own answers."""
    build = device_build(export, "coremltools 9.0")
    assert set(build.files) == {"model.mlpackage", "contract.json", "golden", SCRIPT} and not build.runs_instead
    manifest = _manifest(export)
    for fault, expected in (("", "passed"), ("ne", "rejected")):
        run(export, "--depths", str(export / MAPS), STAND_IN_FAULT=fault)
        assert (export / MAPS).stat().st_size <= build.results[MAPS]
        said = judge(build, Artifact(export, manifest), export, "measured")
        assert said.status == expected and said.version == "coremltools 9.0, macOS "
        assert len(said.notes) == 4 and said.notes[0].startswith("CPU_ONLY: p50 ")
        assert said.metrics["size_bytes"].value == 2  # the package's, not the answer's


def test_a_folder_of_an_older_datk_is_refused(export: Path) -> None:
    (export / SCRIPT).unlink()
    with pytest.raises(DataError, match=f"without {SCRIPT}"):
        device_build(export, "9.0")


def test_it_is_python_3_8_and_needs_only_what_it_says() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 8))
    names = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {str(n.module).split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert names - set(sys.stdlib_module_names) == {"coremltools", "numpy", "PIL"}


def _manifest(export: Path) -> Any:
    from datk.artifact.manifest import Manifest
    from datk.depth.io_spec import Contract

    contract = Contract.model_validate_json((export / "contract.json").read_text())
    facts = {"artifact": "model.mlpackage", "target": "coreml", "precision": "fp16"}
    return Manifest.model_construct(contract=contract, facts=facts, outputs=[], key=sha256_file(export / SCRIPT))
