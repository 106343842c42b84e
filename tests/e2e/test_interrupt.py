"""Ctrl-C in the middle of training, then the same line again: it continues and ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from datk.artifact.manifest import read_manifest
from datk.config.load import find_recipe

ROOT = Path(__file__).parents[2]
STEPS = 40


def start(folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "toolkit")}
    words = [sys.executable, "-m", "datk.cli.main", "run", "r.yaml", "--until", "teacher"]
    return subprocess.Popen(
        words,
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
    )


def heed_ctrl_c() -> None:
    """A shell starts background jobs with Ctrl-C ignored, and children inherit that; a person's terminal does not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_interrupted_training_continues_with_the_same_line(tmp_path: Path) -> None:
    recipe = yaml.safe_load(find_recipe("smoke").read_text(encoding="utf-8")) | {"name": "r"}
    recipe["synthetic"]["count"] = 8
    recipe["teacher"]["schedule"]["steps"] = STEPS
    recipe["teacher"]["schedule"]["checkpoint_every_s"] = 0.3  # long before the last step, however fast the machine
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    part = tmp_path / "runs" / "r" / ".10-teacher.part"
    first = start(tmp_path)
    deadline = time.monotonic() + 300
    while not any(part.glob("state/step-*")) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGINT)
    _, said = first.communicate()
    assert first.returncode == 130, said
    assert "interrupted: run the same command again" in " ".join(said.split())
    assert "Traceback" not in said
    assert any(part.glob("state/step-*")) and not (tmp_path / "runs" / "r" / "10-teacher").exists()

    second = start(tmp_path)
    _, said = second.communicate()
    assert second.returncode == 0, said
    teacher = tmp_path / "runs" / "r" / "10-teacher"
    assert len((teacher / "loss.csv").read_text().splitlines()) == STEPS + 1
    assert read_manifest(teacher).metrics["steps"].value == STEPS
    assert not part.exists()
