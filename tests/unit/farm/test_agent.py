"""The agent on this machine with real runtimes: one result, right maps, nothing left behind."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datk.farm import adapters, agent
from datk.farm.errors import AgentCrashed, DeviceBusy, JobFailed, JobTimeout
from datk.farm.intake import check_result, maps_of
from datk.farm.inventory import Device, Limits
from datk.farm.job import AGENT, Job, Part

from .conftest import make_job


def run(job: Job, out: Path) -> Path:
    out.mkdir(exist_ok=True)

    async def go() -> None:
        async with adapters.get(job.device.kind).open(job.device) as session:
            await session.run_job(job, out, lambda text: None)

    asyncio.run(go())
    return out


def running(marker: Path) -> list[int]:
    """Processes of this machine whose command line names the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if str(marker).encode() in line and state != "Z":
            found.append(int(entry.name))
    return found


def gone(marker: Path, seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while running(marker):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_the_agent_is_one_file_of_python_3_8_with_numpy_alone() -> None:
    source = AGENT.read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    names = {a.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    names |= {str(n.module).split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    runtimes = {"ai_edge_litert", "tflite_runtime", "onnxruntime", "tensorrt", "coremltools", "PIL"}
    assert names <= sys.stdlib_module_names | runtimes | {"numpy"}
    newer = {"removeprefix", "removesuffix", "hexdigest_file", "file_digest"}
    assert not newer & {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_a_job_brings_back_the_artifacts_own_maps_and_every_figure(tmp_path: Path, local: Device, runtime: str) -> None:
    job = make_job(tmp_path, local, runtime=runtime, baseline=True)
    out = run(job, tmp_path / "out")
    result = check_result(job, out)
    images = np.load(job.inputs.path)
    np.testing.assert_allclose(maps_of(result, out), images.mean(axis=3), atol=0.07)  # float16 of a range of 256
    assert result.work is not None
    assert [p.role for p in result.work.parts] == ["candidate", "baseline"]
    for part in result.work.parts:
        assert part.load_ms > 0 and part.first_run_ms > 0
        assert np.asarray(part.times_ms).shape == (2, 2, 3)
        assert part.placement is not None and "fallback" in part.placement
    assert result.work.memory.peak_bytes and result.work.memory.peak_bytes > 5e6
    assert result.work.sensors_before.time_s
    assert sorted(p.name for p in out.iterdir()) == ["predictions.npy", "result.json"]
    assert not list(Path(str(local.root)).glob("job-*")) and not running(Path(str(local.root)))


@pytest.mark.parametrize(
    "depth",
    [
        np.linspace(0.5, 0.502, 392).reshape(14, 28),
        np.linspace(0, 1e6, 392).reshape(14, 28),
        np.zeros((14, 28)),
        np.full((14, 28), 3.25),
        np.where(np.eye(14, 28) > 0, np.nan, 2.0) + np.arange(28),
        np.where(np.eye(14, 28) > 0, np.inf, 1e-8) * np.arange(1, 29),
    ],
)
def test_halving_costs_a_four_thousandth_of_the_maps_own_range(depth: np.ndarray) -> None:
    stored, scale, shift = agent.half(depth)
    back = stored.astype(np.float64) / scale + shift
    finite = np.isfinite(depth)
    assert (np.isfinite(back) == finite).all()
    span = np.ptp(depth[finite])
    assert np.abs(back[finite] - depth[finite]).max() <= span / 4000 + 1e-30


def test_the_artifact_another_shape_than_its_contract_is_refused_in_words(tmp_path: Path, local: Device) -> None:
    job = make_job(tmp_path, local)
    contract = job.candidate.contract
    wrong = contract.model_copy(update={"output": contract.output.model_copy(update={"dtype": "float16"})})
    part = Part(**{**dict(job.candidate), "contract": wrong})
    job = job.model_copy(update={"parts": (part,)})
    out = run(job, tmp_path / "out")
    with pytest.raises(JobFailed, match="expected tensors"):
        check_result(job, out)


def test_a_runtimes_refusal_comes_back_in_its_own_words(tmp_path: Path, local: Device) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no onnx at all")
    job = make_job(tmp_path, local)
    with pytest.raises(JobFailed, match="ONNX Runtime cannot load it"):
        check_result(job, run(job, tmp_path / "out"))


def faulty(tmp_path: Path, device: Device, code: str) -> Device:
    """The device with a runtime that does `code` when it is loaded."""
    site = tmp_path / "site"
    (site / "onnxruntime").mkdir(parents=True, exist_ok=True)
    (site / "onnxruntime" / "__init__.py").write_text(code)
    return device.model_copy(update={"python": ("env", f"PYTHONPATH={site}", sys.executable)})


@pytest.mark.parametrize(
    ("code", "words"),
    [("import os; os.abort()", "SIGABRT"), ("raise SystemExit(9)", "exit code 9"), ("1/0", "ZeroDivisionError")],
)
def test_a_worker_that_dies_leaves_one_result_that_says_how(
    tmp_path: Path, local: Device, code: str, words: str
) -> None:
    job = make_job(tmp_path, faulty(tmp_path, local, code))
    with pytest.raises(AgentCrashed, match=words):
        check_result(job, run(job, tmp_path / "out"))


def test_a_hung_runtime_ends_at_the_deadline_with_every_child(tmp_path: Path, local: Device) -> None:
    hang = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)', %r])\n"
    device = faulty(tmp_path, local, hang % str(tmp_path) + "time.sleep(99)")
    job = make_job(tmp_path, device.model_copy(update={"limits": Limits(timeout_s=1)}))
    started = time.monotonic()
    with pytest.raises(JobTimeout, match="ended after 1 s"):
        check_result(job, run(job, tmp_path / "out"))
    assert time.monotonic() - started < 15
    assert gone(tmp_path)


def supervised(tmp_path: Path, device: Device, *words: str) -> tuple[subprocess.Popen[bytes], Path]:
    """A supervisor started by hand, its worker hanging."""
    hanging = faulty(tmp_path, device, "import time; time.sleep(99)")
    job = make_job(tmp_path, hanging)
    folder = tmp_path / "device" / "job-1"
    folder.mkdir(parents=True)
    for number, part in enumerate(job.parts):
        (folder / f"artifact-{number}.onnx").write_bytes(Path(part.path).read_bytes())
    (folder / "inputs.npy").write_bytes(Path(job.inputs.path).read_bytes())
    (folder / "job.json").write_text(json.dumps(job.for_device()))
    command = [*hanging.python, str(AGENT), "supervise", str(folder), *words]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + 10
    while not (folder / "pid").exists() or len(running(folder)) < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    return child, folder


def test_a_host_that_hangs_up_ends_the_job_and_leaves_nothing(tmp_path: Path, local: Device) -> None:
    child, folder = supervised(tmp_path, local)
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(5) == 1
    assert gone(folder) and not folder.exists()


def test_a_host_that_falls_silent_ends_the_job(tmp_path: Path, local: Device) -> None:
    child, folder = supervised(tmp_path, local, "--lost-after", "0.5")
    assert child.wait(5) == 1
    assert gone(folder)


def test_killing_the_supervisor_kills_the_worker(tmp_path: Path, local: Device) -> None:
    child, folder = supervised(tmp_path, local)
    os.kill(child.pid, signal.SIGKILL)
    child.wait(5)
    assert gone(folder)


def test_end_kills_supervisor_and_worker_by_the_pid_file(tmp_path: Path, local: Device) -> None:
    child, folder = supervised(tmp_path, local)
    assert agent.end_job(folder)
    child.wait(5)
    assert gone(folder)


def test_a_pid_file_of_an_earlier_boot_kills_nobody(tmp_path: Path) -> None:
    innocent = subprocess.Popen(["sleep", "30"], start_new_session=True)
    try:
        (tmp_path / "pid").write_text(f"{innocent.pid} 12345\n")
        agent.end_job(tmp_path)
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_a_second_job_on_the_device_is_told_that_it_is_busy(tmp_path: Path, local: Device) -> None:
    child, folder = supervised(tmp_path, local)
    try:
        with pytest.raises(DeviceBusy):
            run(make_job(tmp_path, local), tmp_path / "out")
        assert folder.exists() and child.poll() is None  # the sweep left the living job alone
    finally:
        agent.end_job(folder)
        child.wait(5)


def test_sweep_ends_orphans_and_removes_old_folders(tmp_path: Path) -> None:
    root = tmp_path / "device"
    for name, age in (("job-old", 5000), ("job-new", 0), ("other", 5000)):
        (root / name).mkdir(parents=True)
        then = time.time() - age
        os.utime(root / name, (then, then))
    orphan = subprocess.Popen(["sleep", "30"], start_new_session=True)
    (root / "job-new" / "pid").write_text(f"{orphan.pid} {agent.start_time(orphan.pid)}\n")
    (root / "job-link").symlink_to(tmp_path)
    assert agent.sweep(root, 900)["removed"] == 2
    assert orphan.wait(5) == -signal.SIGKILL
    assert sorted(p.name for p in root.iterdir()) == ["job-link", "lock", "other"]
