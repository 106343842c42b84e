"""Ctrl-C in the middle of `datk quantize --qat`, then the same line again: it ends with the bits of one run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datk.artifact.manifest import read_manifest
from tests.e2e.farm_run import make_run
from tests.e2e.test_interrupt import ROOT, heed_ctrl_c

STEPS = 30
WAIT_S = 300


def start(folder: Path) -> subprocess.Popen[str]:
    words = ["quantize", "--target", "onnx", "--qat", "--steps", str(STEPS), "--input-size", "28"]
    return subprocess.Popen(
        [sys.executable, "-m", "datk.cli.main", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "toolkit")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_in_training_under_int8_is_told_and_the_same_line_ends_as_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cut").mkdir()
    monkeypatch.chdir(tmp_path / "cut")
    run = make_run(tmp_path / "cut", "onnx")
    part, stage = run / ".38-qat-onnx.part", run / "38-qat-onnx"

    first = start(tmp_path / "cut")
    deadline = time.monotonic() + WAIT_S
    while not (part / "timing.csv").is_file() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(2)  # into the steps
    os.killpg(first.pid, signal.SIGINT)
    _, said = first.communicate(timeout=WAIT_S)
    assert first.returncode == 130, said
    assert "interrupted: run the same command again" in " ".join(said.split())
    assert "Traceback" not in said
    assert [0 < int(p.name.removeprefix("step-")) < STEPS for p in part.glob("state/step-*")] == [True]
    assert not stage.exists() and not (run / "40-quantize-onnx").exists()

    second = start(tmp_path / "cut")
    _, said = second.communicate(timeout=WAIT_S)
    assert second.returncode == 0, said
    assert len((stage / "loss.csv").read_text(encoding="utf-8").splitlines()) == STEPS + 1
    assert read_manifest(stage).metrics["steps"].value == STEPS and read_manifest(run / "40-quantize-onnx")
    assert not list(run.glob(".*.part"))

    (tmp_path / "whole").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    whole = make_run(tmp_path / "whole", "onnx")
    third = start(tmp_path / "whole")
    _, said = third.communicate(timeout=WAIT_S)
    assert third.returncode == 0, said
    for name in ("loss.csv", "student.safetensors"):
        assert (stage / name).read_bytes() == (whole / "38-qat-onnx" / name).read_bytes(), name
