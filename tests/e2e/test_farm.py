"""`datk farm` as a user types it: a run's artifacts on this machine and on devices that do not exist."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from datk.artifact.manifest import read_manifest
from datk.evaluate.benchmarks import get
from datk.farm.store import Store

from .farm_run import datk, make_run

DEVICES = {
    "devices": [
        {"name": "here", "kind": "local", "labels": ["x86"], "threads": 1},
        {"name": "sim", "kind": "simulated", "labels": ["pixel"]},
        {"name": "old", "kind": "simulated", "disabled": "broken fan"},
        {"name": "phone", "kind": "simulated", "runtimes": ["litert"]},
    ]
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("farm")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        DEVICES["devices"][0]["root"] = str(folder / "device")
        (folder / "devices.yaml").write_text(yaml.safe_dump(DEVICES))
        make_run(folder, "onnx")
        words = ["--rounds", "5", "--runs", "1", "--warmup", "1", "--junit", "j.xml", "--summary", "s.md"]
        assert datk("farm", "run", "--devices", "x86,sim", "old", "phone", *words) == 0
        yield folder


def row(work: Path, device: str) -> dict[str, Any]:
    return json.loads((work / "runs/net" / f"70-farm-{device}" / "onnx-fp32.json").read_text())


def test_the_device_and_the_host_agree_because_one_evaluator_scored_both(work: Path) -> None:
    host = read_manifest(work / "runs/net/60-validate-onnx-fp32")
    stage = read_manifest(work / "runs/net/70-farm-here")
    there = row(work, "here")
    assert stage.verdict is not None and stage.verdict.status == "passed" == there["status"]
    for name in ("bench_accuracy", "bench_drop_pp", "correlation_vs_float_median", "abs_rel_vs_float"):
        assert there["metrics"][name]["value"] == pytest.approx(
            host.metrics[name].value, abs=0.3 if "bench" in name else 1e-3
        )
        assert there["metrics"][name]["n"] == host.metrics[name].n
    assert there["label"].startswith("here: onnxruntime") and there["label"].endswith(platform.machine())


def test_a_device_has_latency_with_its_band_load_and_memory(work: Path) -> None:
    metrics = row(work, "here")["metrics"]
    for name in ("latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "pre_p50_ms", "infer_p50_ms", "post_p50_ms"):
        assert metrics[name]["value"] >= 0 and metrics[name]["n"] == 5
    low, high = metrics["latency_p50_ms"]["interval95"]
    assert 0 < low <= high
    assert metrics["peak_memory_bytes"]["value"] > 1e7 and metrics["load_ms"]["value"] > 0


def test_a_simulated_device_is_never_reported_as_measured(work: Path) -> None:
    there = row(work, "sim")
    assert there["status"] == "not measured" and there["reasons"] == ["simulated device: nothing was run"]
    assert all(m["value"] is None for n, m in there["metrics"].items() if n not in ("size_bytes", "fallback_ops"))
    assert read_manifest(work / "runs/net/70-farm-sim").verdict is None
    assert [h["device"] for h in Store(work / "runs/.farm").history()] == ["here"]


def test_what_a_device_cannot_run_is_said_and_not_tried(work: Path) -> None:
    assert row(work, "old")["reasons"] == ["disabled: broken fan"]
    assert row(work, "phone")["reasons"] == ["phone runs litert only"]
    assert row(work, "phone")["status"] == "unsupported"


def test_the_report_shows_device_and_host_side_by_side(work: Path) -> None:
    for name in ("report.md", "report.html"):
        text = (work / "runs/net" / name).read_text()
        assert "onnx fp32 @ here" in text and "onnx fp32 @ sim" in text
        assert "a device of the farm: its maps were scored on the host" in text
        assert "phone runs litert only" not in text
    lines = [line for line in (work / "runs/net/report.md").read_text().splitlines() if line.startswith("| onnx fp32")]
    assert [line.split("|")[1].strip() for line in lines[:3]] == ["onnx fp32", "onnx fp32 @ here", "onnx fp32 @ sim"]


def test_ci_gets_junit_and_markdown(work: Path) -> None:
    suite = ElementTree.parse(work / "j.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == (
        "4",
        "0",
        "1",
        "2",
    )
    assert "| here | onnx-fp32 | passed |" in (work / "s.md").read_text()


def test_the_same_call_again_runs_nothing_and_force_does(work: Path) -> None:
    store = Store(work / "runs/.farm")
    words = ["farm", "run", "--devices", "x86", "--rounds", "5", "--runs", "1", "--warmup", "1"]
    before = store.rows()
    assert datk(*words) == 0
    assert store.rows() == before
    assert datk(*words, "--force") == 0
    assert len(store.rows()) == len(before) + 1


def test_an_artifact_over_the_devices_limits_is_rejected_with_exit_3(work: Path) -> None:
    limited = {**DEVICES["devices"][0], "name": "small", "limits": {"max_size_bytes": 1000}}
    (work / "small.yaml").write_text(yaml.safe_dump({"devices": [limited]}))
    words = ["--rounds", "1", "--runs", "1", "--inventory", "small.yaml"]
    assert datk("farm", "run", "--devices", "small", *words) == 3
    assert any("at most 1,000 allowed" in r for r in row(work, "small")["reasons"])


def test_maps_that_are_wrong_are_rejected_wherever_they_come_from(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datk.pipeline.farm import scoring

    real = scoring.maps_of
    monkeypatch.setattr(scoring, "maps_of", lambda result, folder: np.negative(real(result, folder)))
    words = ["farm", "run", "--devices", "x86", "--rounds", "5", "--runs", "1", "--warmup", "1"]
    assert datk(*words) == 3
    assert any("correlation -" in r for r in row(work, "here")["reasons"])


def test_status_logs_cancel_and_quarantine_speak(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert datk("farm", "status", "--json") == 0
    jobs = json.loads(capsys.readouterr().out)["jobs"]
    assert {j["state"] for j in jobs} == {"done"}
    assert datk("farm", "logs", str(jobs[0]["id"])) == 0
    assert "sent" in capsys.readouterr().out
    assert datk("farm", "cancel") == 2
    assert datk("farm", "cancel", "99999") == 2
    assert "no job 99999" in capsys.readouterr().err
    assert datk("farm", "quarantine", "here") == 2
    assert datk("farm", "quarantine", "hree", "--reason", "too hot") == 2
    assert "did you mean 'here'" in capsys.readouterr().err
    assert datk("farm", "compare") == 2
    assert "no release before net to compare with" in capsys.readouterr().err
    assert datk("farm", "quarantine", "here", "--reason", "too hot", "--hours", "1") == 0
    words = ["farm", "run", "--devices", "x86", "--rounds", "1", "--runs", "1"]
    assert datk(*words) == 4
    assert "quarantined: too hot" in row(work, "here")["reasons"][0]
    assert datk("farm", "quarantine", "here", "--release") == 0
    assert datk(*words) in (0, 3)


def test_the_bench_is_the_runs_own(work: Path) -> None:
    assert read_manifest(work / "runs/net/70-farm-here").section == {"bench": "mini"}
    assert get("mini").name == "mini"
