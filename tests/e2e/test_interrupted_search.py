"""Ctrl-C in the middle of `datk quantize --search`, then the same line again: it goes on behind the rungs it tried."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from datk.artifact.manifest import read_manifest
from tests.e2e.farm_run import make_run
from tests.e2e.test_interrupt import ROOT, heed_ctrl_c

WAIT_S = 300


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    words = ["quantize", "--target", "onnx", "--search", "--input-size", "28", *more]
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


def tried(record: Path) -> list[dict[str, Any]]:
    return json.loads(record.read_text(encoding="utf-8"))["rungs"] if record.is_file() else []


def complete(run: Path) -> list[Path]:
    """Stages that have a stage's name; each is read with its manifest, so half of one is an error here."""
    stages = [p for p in sorted(run.iterdir()) if p.is_dir() and p.name[:2].isdigit()]
    assert all(read_manifest(stage) for stage in stages)
    return stages


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_in_a_search_is_told_and_the_same_line_goes_on_behind_the_rungs_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path, "onnx")
    record = run / "search-onnx.json"

    first = start(tmp_path)
    deadline = time.monotonic() + WAIT_S
    while not tried(record) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)  # into the next rung
    os.killpg(first.pid, signal.SIGINT)
    _, said = first.communicate(timeout=WAIT_S)
    assert first.returncode == 130, said
    assert "interrupted: run the same command again" in " ".join(said.split())
    assert "Traceback" not in said
    before = tried(record)
    assert before and complete(run)

    second = start(tmp_path, "--budget", "60s")  # long enough to begin a rung on a busy machine
    _, said = second.communicate(timeout=WAIT_S)
    assert second.returncode == 0, said
    after = tried(record)
    assert after[: len(before)] == before and len(after) > len(before), "it goes on behind what was tried"
    assert len({t["name"] for t in after}) == len(after)
    assert complete(run) and not list(run.glob(".*.part"))
