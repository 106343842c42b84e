"""Training on several gloo processes: what one process computes, and states that any number of processes resumes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from datk.artifact.manifest import read_manifest
from datk.errors import UsageError
from datk.train.checkpoint import find_state, read_tensors
from datk.train.trace import read_log
from datk.train.world import World
from tests.unit.train import micro

ROOT = Path(__file__).parents[2]
GRADIENT_TOLERANCE = 1e-4
"""Of the largest entry: float32 sums in another order, through medians and a sorted loss; measured about 1e-6."""
LOSS_TOLERANCE = 1e-3
"""Relative, over six steps of Adam, whose first steps turn tiny gradients into whole ones; measured 3e-6."""


def torchrun(processes: int, jobs: list[dict[str, Any]]) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'toolkit'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [*words, "-m", "tests.unit.train.micro", json.dumps(jobs)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]


def kept(folder: Path) -> dict[str, Tensor]:
    """The whole tensors of a state that one process wrote."""
    (state,) = (folder / "state").iterdir()
    (file,) = state.glob("*.safetensors")
    return load_file(file)


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_log(folder / "loss.csv")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes leave, in one launch: each costs seconds."""
    root = tmp_path_factory.mktemp("processes")
    parts = {"sharding": "fsdp", "micro_batch": 2, "activation_checkpointing": True}
    jobs: list[dict[str, Any]] = [
        {"folder": str(root / "first-ddp"), "stop_after": 1},
        {"folder": str(root / "ddp"), "stop_after": 3},
        {"folder": str(root / "fsdp"), "schedule": {"sharding": "fsdp"}, "stop_after": 3},
        {"folder": str(root / "fsdp-parts"), "schedule": parts, "stop_after": 3},
    ]
    torchrun(2, jobs)
    return root


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, uninterrupted."""
    folder = tmp_path_factory.mktemp("alone")
    micro.run_job({"folder": folder})
    return folder


def test_two_processes_compute_the_gradient_of_one(runs: Path, tmp_path: Path) -> None:
    micro.run_job({"folder": tmp_path, "stop_after": 1})
    (state,) = (runs / "first-ddp/state").iterdir()
    merged: dict[str, Tensor] = {}
    for file in state.glob("*.safetensors"):  # replicated tensors are written once, by one of the two
        merged |= load_file(file)
    first = {k: v for k, v in kept(tmp_path).items() if k.endswith(":exp_avg")}
    scale = max(float(v.abs().max()) for v in first.values())
    assert max(float((merged[k] - v).abs().max()) for k, v in first.items()) <= GRADIENT_TOLERANCE * scale


@pytest.mark.parametrize("name", ["ddp", "fsdp", "fsdp-parts"])
def test_processes_micro_batches_and_shards_follow_the_same_losses(runs: Path, alone: Path, name: str) -> None:
    assert losses(runs / name)[:3] == pytest.approx(losses(alone)[:3], rel=LOSS_TOLERANCE)


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_a_state_of_two_processes_is_resumed_by_one(runs: Path, alone: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(runs / name, tmp_path / name)
    result, _ = micro.run_job({"folder": tmp_path / name})
    assert result.resumed_from == 3 and result.steps == 6
    assert losses(tmp_path / name) == pytest.approx(losses(alone), rel=LOSS_TOLERANCE)


def test_one_process_reads_every_bit_two_sharded_ones_wrote(runs: Path) -> None:
    """Compared with the files themselves, put together here by the offsets in their headers."""
    found = find_state(runs / "fsdp", fingerprint="micro")
    assert found is not None
    expected: dict[str, Tensor] = {}
    for file in sorted(found[0].glob("*.safetensors")):
        with safe_open(file, "pt") as handle:
            offsets = json.loads(handle.metadata()["DCP_SHARDING_INFO"])
            for name in handle.keys():  # noqa: SIM118
                expected.setdefault(name, torch.empty(0))
                begin = offsets[name]["saved_offsets"]
                shard = handle.get_tensor(name)
                assert sum(begin[1:]) == 0, "sharded along the first axis"
                expected[name] = torch.cat((expected[name].reshape(-1, *shard.shape[1:])[: begin[0]], shard))
    loaded = {name: torch.full_like(value, torch.nan) for name, value in expected.items()}
    read_tensors(found[0], loaded, world=World())
    assert len(loaded) > 200 and all(torch.equal(loaded[name], value) for name, value in expected.items())
    assert all(loaded[f"module.{name}"].shape == value.shape for name, value in micro.micro_net().state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_a_state_of_two_processes_is_resumed_by_three(runs: Path, alone: Path, tmp_path: Path, sharding: str) -> None:
    shutil.copytree(runs / sharding, tmp_path / sharding)
    torchrun(3, [{"folder": str(tmp_path / sharding), "schedule": {"sharding": sharding}}])
    assert losses(tmp_path / sharding) == pytest.approx(losses(alone), rel=LOSS_TOLERANCE)


@pytest.mark.slow
def test_a_sharded_state_is_resumed_unsharded_and_back(runs: Path, alone: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "fsdp", tmp_path / "a")
    folder = str(tmp_path / "a")
    torchrun(2, [{"folder": folder, "stop_after": 4}, {"folder": folder, "schedule": {"sharding": "fsdp"}}])
    assert losses(tmp_path / "a") == pytest.approx(losses(alone), rel=LOSS_TOLERANCE)


def test_a_batch_that_does_not_divide_is_told_with_what_would() -> None:
    with pytest.raises(UsageError, match="6 images cannot be shared evenly by 4 processes") as caught:
        World(0, 4).check_divides(6)
    assert caught.value.hint is not None and "batch_size to 4 or 8" in caught.value.hint


@pytest.mark.slow
def test_the_route_runs_under_torchrun(tmp_path: Path) -> None:
    """The first process walks it, the second helps to train; only the first writes and speaks."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "toolkit"), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*words, "-m", "datk", "run", "smoke", "--until", "student", "--out", "r"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("done  train the teacher on synthetic images") == 1
    manifest = read_manifest(tmp_path / "r/30-student")
    assert manifest.facts["processes"] == 2 and manifest.metrics["steps"].value == 8
    assert not (tmp_path / "r/30-student/state").exists()
    assert len((tmp_path / "r/30-student/loss.csv").read_text().splitlines()) == 9
