"""`datk export --device NAME` as a user types it: the engine built "on the device" with a stand-in for TensorRT."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from datk.artifact.files import sha256_file
from datk.artifact.manifest import read_manifest
from datk.farm.inventory import load_inventory
from datk.farm.store import Store
from datk.pipeline.farm.brought_back import engine_of
from datk.pipeline.farm.engines import build_engines
from datk.pipeline.runs import artifacts_of

from .farm_run import datk, make_run

pytestmark = pytest.mark.slow  # tests/unit/farm/test_build_job.py holds the builds themselves to the same claims
STAND_IN = Path(__file__).parents[1] / "unit" / "farm" / "stand_in_tensorrt"
STAND_IN_MAC = STAND_IN.with_name("stand_in_coremltools")
LINE = ("export", "--run", "runs/net", "--target", "jetson", "--precision", "fp32", "--input-size", "28")
FEW = ("--images", "photos", "--allow-few")


class Quiet:
    """A FarmReporter that shows nothing."""

    def jobs(self, rows: object, waiting: object) -> None: ...
    def stage(self, name: str, title: str, state: str) -> None: ...
    def progress(self, done: int, total: int, what: str = "", stage: str = "") -> None: ...
    def note(self, text: str) -> None: ...


def device(
    folder: Path, name: str, *, stand_in: Path = STAND_IN, tensorrt: bool = True, **environment: str
) -> dict[str, object]:
    words = [f"PYTHONPATH={stand_in}", *(f"{k}={v}" for k, v in environment.items())] if tensorrt else []
    python = ["env", *words, sys.executable]
    return {"name": name, "kind": "local", "root": str(folder / "device"), "python": python}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("engine")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        devices = [
            device(folder, "orin") | {"labels": ["jetson", "bench"]},
            device(folder, "bare", tensorrt=False) | {"labels": ["bench"]},
            device(folder, "old", STAND_IN_VERSION="8.5.2"),
            device(folder, "weak", STAND_IN_VERSION="8.6.2"),
            device(folder, "one-layer", STAND_IN_VERSION="10.3.0.30", STAND_IN_FAULT="layer:LayerNormalization"),
            device(folder, "known-bad", STAND_IN_VERSION="10.3.0.30", STAND_IN_FAULT="wrong"),
            device(folder, "lucky", STAND_IN_VERSION="10.3.0.30"),
            device(folder, "refuses", STAND_IN_FAULT="refuse"),
            device(folder, "no-gpu", STAND_IN_FAULT="nogpu"),
            device(folder, "mac", stand_in=STAND_IN_MAC),
            device(folder, "sick-mac", stand_in=STAND_IN_MAC, STAND_IN_FAULT="ne"),
            {"name": "sim", "kind": "simulated", "runtimes": ["tensorrt"]},
            {"name": "broken", "kind": "simulated", "disabled": "broken fan"},
        ]
        (folder / "devices.yaml").write_text(yaml.safe_dump({"devices": devices}))
        make_run(folder, "jetson")
        yield folder


def sums_hold(folder: Path) -> bool:
    return subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder).returncode == 0


def test_an_engine_comes_back_with_its_timings_and_the_export_is_left_as_it_was(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = work / "runs/net/50-export-jetson-fp32"
    before = {p.name: p.stat().st_mtime_ns for p in export.rglob("*")}
    assert datk(*LINE, *FEW, "--device", "jetson", "--json") == 0  # by its label
    (row,) = json.loads(capsys.readouterr().out)["engines"]
    assert (row["device"], row["status"]) == ("orin", "passed")
    assert {p.name: p.stat().st_mtime_ns for p in export.rglob("*")} == before and sums_hold(export)
    stage = work / "runs/net/65-engine-jetson-fp32-orin"
    assert sorted(p.name for p in stage.iterdir()) == [
        "SHA256SUMS",
        "depth_28x28_fp32.engine",
        "depth_28x28_fp32.engine.made_from",
        "depth_28x28_fp32.engine.timing.cache",
        "engine_check.json",
        "manifest.json",
    ]
    assert sums_hold(stage)
    manifest = read_manifest(stage)
    assert manifest.verdict is not None and manifest.verdict.status == "passed"
    assert manifest.tools["tensorrt"] == "10.7.0" and manifest.metrics["correlation_vs_float_worst"].n == 4
    assert not list((work / "device").glob("job-*"))
    assert "jetson fp32 @ orin (engine)" in (work / "runs/net/report.md").read_text()


def test_the_same_line_again_builds_nothing_and_force_does(work: Path) -> None:
    assert datk(*LINE, *FEW, "--device", "orin") == 0
    rows = Store(work / "runs/.farm").rows(device="orin")
    assert datk(*LINE, *FEW, "--device", "orin") == 0
    assert Store(work / "runs/.farm").rows(device="orin") == rows
    assert rows[-1].title == "build jetson-fp32 on orin" and datk("farm", "logs", str(rows[-1].id)) == 0
    (orin,) = load_inventory().select(["orin"])
    again = build_engines(artifacts_of(Path("runs/net")), orin, {"tensorrt": "unknown"}, reporter=Quiet(), force=True)
    assert [r.status for r in again] == ["passed"]
    assert len(Store(work / "runs/.farm").rows(device="orin")) == len(rows) + 1


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("orim", 2, "did you mean 'orin'"),
        ("bench", 2, "orin, bare answer to it"),
        ("bare", 4, "bare: no tensorrt"),
        ("broken", 4, "broken fan"),
        ("old", 4, "TensorRT 8.5.2 is older than 8.6"),
        ("known-bad", 3, "known bad: tensorrt 10.3.0.30"),
        pytest.param("no-gpu", 4, "no usable CUDA device"),
        pytest.param("refuses", 3, "In node 7: the stand-in refuses"),
        pytest.param("sim", 0, "simulated device: nothing was run"),
    ],
)
def test_what_cannot_be_built_is_said_with_the_right_exit_code(
    work: Path, name: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert datk(*LINE, *FEW, "--device", name) == code
    told = capsys.readouterr().err
    assert words in " ".join(told.split()), told
    assert "\x1b[31m" not in told
    stage = work / f"runs/net/65-engine-jetson-fp32-{name}"
    assert stage.is_dir() == (name == "known-bad")
    if stage.is_dir():  # wrong answers are kept, marked rejected
        manifest = read_manifest(stage)
        assert manifest.verdict is not None and manifest.verdict.status == "rejected"
        assert "correlation" in manifest.verdict.reasons[0]


def test_a_known_bad_version_that_answers_right_passes_with_the_warning(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert datk(*LINE, *FEW, "--device", "lucky") == 0
    assert "known bad: tensorrt 10.3.0.30" in " ".join(capsys.readouterr().err.split())
    assert read_manifest(work / "runs/net/65-engine-jetson-fp32-lucky").facts["known_bad"]


def test_the_first_wrong_layer_of_a_rejected_engine_is_named(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert datk(*LINE, *FEW, "--device", "one-layer") == 3
    assert "first wrong layer: pretrained.blocks.0.norm1 (LayerNormalization)" in " ".join(
        capsys.readouterr().err.split()
    )
    manifest = read_manifest(work / "runs/net/65-engine-jetson-fp32-one-layer")
    assert manifest.facts["layers"]["first"]["layer"] == "pretrained.blocks.0.norm1"
    assert manifest.verdict is not None and any("first wrong layer" in r for r in manifest.verdict.reasons)


def test_an_8_6_builds_from_the_opset_17_file(work: Path) -> None:
    assert datk(*LINE, *FEW, "--device", "weak") == 0
    stage = work / "runs/net/65-engine-jetson-fp32-weak"
    said = json.loads((stage / "engine_check.json").read_text())
    assert (said["built_from"], said["tensorrt"]) == ("model_opset17.onnx", "8.6.2")
    manifest = read_manifest(stage)
    assert manifest.verdict is not None and manifest.verdict.status == "passed"


def test_a_target_that_needs_no_device_and_a_dry_run(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert datk("export", "--run", "runs/net", "--target", "onnx", "--device", "orin") == 2
    assert "builds nothing on a device" in capsys.readouterr().err
    assert datk(*LINE, *FEW, "--device", "bare", "--dry-run") == 0
    assert os.environ.get("PYTHONPATH") is None or str(STAND_IN) not in os.environ["PYTHONPATH"]


def test_the_farm_sends_the_engine_to_the_device_that_built_it_and_its_history_says_so(work: Path) -> None:
    assert datk(*LINE, *FEW, "--device", "orin") == 0
    engine = work / "runs/net/65-engine-jetson-fp32-orin/depth_28x28_fp32.engine"
    words = ["--artifacts", "runs/net/50-export-jetson-fp32", "--devices", "orin,old", "--rounds", "5", "--runs", "1"]
    assert datk("farm", "run", *words) == 0
    rows = {
        name: json.loads((work / "runs/net" / f"70-farm-{name}" / "jetson-fp32.json").read_text())
        for name in ("orin", "old")
    }
    assert {name: row["status"] for name, row in rows.items()} == {"orin": "passed", "old": "passed"}
    assert rows["orin"]["sha256"] == sha256_file(engine)
    assert rows["orin"]["metrics"]["size_bytes"]["value"] == engine.stat().st_size
    assert rows["orin"]["details"]["engine"] == "65-engine-jetson-fp32-orin" and "engine" in rows["orin"]["label"]
    assert rows["old"]["sha256"] == sha256_file(work / "runs/net/50-export-jetson-fp32/model.onnx")
    assert rows["old"]["details"]["engine"] is None
    (kept,) = [h for h in Store(work / "runs/.farm").history() if h["device"] == "orin"]
    assert kept["sha256"] == sha256_file(engine)
    engine.write_bytes(engine.read_bytes()[:-1] + b"x")
    assert datk("farm", "run", *words) == 2


def test_a_mac_compares_its_compute_units_and_the_package_stays_what_is_sent(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ("export", "--run", "runs/net", "--target", "coreml", "--precision", "fp32", "--input-size", "28", *FEW)
    assert datk(*line, "--device", "mac") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "CPU_AND_NE: p50" in said and "2 MLNeuralEngineComputeDevice" in said, said
    stage = work / "runs/net/65-engine-coreml-fp32-mac"
    assert sums_hold(stage) and json.loads((stage / "compute_units.json").read_text())["status"] == "passed"
    facts = read_manifest(stage).facts
    assert facts["runs_instead"] is False and facts["label"].startswith("mac: coreml coremltools 9.0, macOS")
    (artifact,) = [a for a in artifacts_of(work / "runs/net") if a.target == "coreml"]
    (mac,) = load_inventory().select(["mac"])
    assert engine_of(artifact, mac) is None
    assert datk(*line, "--device", "sick-mac") == 3
    assert "needed 0.999" in " ".join(capsys.readouterr().err.split())
