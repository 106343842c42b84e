"""kill -9 at any moment, also in the middle of writing a state: the run goes on and ends with the very same bits."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.train import micro

EVERY_STEP = {"steps": 12, "checkpoint_every_s": 1e-6}


@pytest.fixture(scope="module")
def children() -> Any:
    """Processes forked from one that has imported everything but run nothing: each starts in milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.unit.train.micro"])
    return context


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, children: Any) -> Path:
    """The uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    child = children.Process(target=micro.run_job, args=({"folder": folder, "schedule": EVERY_STEP, "noisy": True},))
    child.start()
    child.join()
    assert child.exitcode == 0
    return folder


def assert_same_bits(folder: Path, whole: Path) -> None:
    """Weights, optimiser, average, counters, position in the data; the random draws are in the weights."""
    states = []
    for root in (folder, whole):
        (state,) = (root / "state").iterdir()
        (file,) = state.glob("*.safetensors")
        states.append((load_file(file), json.loads((state / "state.json").read_text())))
    (tensors, facts), (expected, expected_facts) = states
    assert facts == expected_facts and facts["step"] == 12 and facts["images"] == 72
    assert tensors.keys() == expected.keys() and len(tensors) > 200
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert (folder / "loss.csv").read_bytes() == (whole / "loss.csv").read_bytes()


def test_killed_inside_its_checkpoints_it_ends_with_the_same_bits(tmp_path: Path, whole: Path, children: Any) -> None:
    job = {"folder": tmp_path, "schedule": EVERY_STEP, "noisy": True}
    reached = []
    for events in (1, 4, 7, 10, 13, 16, 40):  # a state is about a dozen events: each of them is met by one of these
        child = children.Process(target=micro.run_and_die, args=(job, events))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        reached.append(max((int(p.name[5:]) for p in tmp_path.glob("state/step-*")), default=0))
    assert reached == sorted(reached) and reached[-1] >= 3, "nothing that was saved is ever lost"
    last = children.Process(target=micro.run_job, args=(job,))
    last.start()
    last.join()
    assert last.exitcode == 0
    assert_same_bits(tmp_path, whole)


def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path: Path, whole: Path, children: Any) -> None:
    job = {"folder": tmp_path, "schedule": EVERY_STEP, "noisy": True}
    moments, kills = random.Random(0), 0
    while True:
        child = children.Process(target=micro.run_job, args=(job,))
        child.start()
        if kills < 5:
            time.sleep(moments.uniform(0.2, 1.2))
            child.kill()
        child.join()
        if child.exitcode == 0:
            break
        kills += 1
    assert_same_bits(tmp_path, whole)
