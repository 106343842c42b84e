"""The adb adapter against a stand-in executable: the protocol is tested, no Android device was."""

from __future__ import annotations

import asyncio
import stat
import sys
from pathlib import Path, PurePosixPath

import pytest

from datk.errors import EnvironmentLacks
from datk.farm.adapters import get
from datk.farm.adapters.adb import AdbTransport
from datk.farm.errors import ConnectionLost, CorruptResult
from datk.farm.intake import check_result
from datk.farm.inventory import Adb, Device

from .conftest import make_job

STAND_IN = Path(__file__).with_name("stand_in_adb.py")


@pytest.fixture
def adb(tmp_path: Path) -> Path:
    path = tmp_path / "adb"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def phone(adb: Path, tmp_path: Path, serial: str = "standin-1") -> Device:
    access = Adb(serial=serial, adb=str(adb))
    root = str(tmp_path / "sdcard")
    return Device(name="phone", kind="adb", adb=access, root=root, python=(sys.executable,), threads=1)


def test_a_job_runs_over_shell_push_and_exec_out(tmp_path: Path, adb: Path) -> None:
    device = phone(adb, tmp_path)
    job = make_job(tmp_path, device)
    out = tmp_path / "out"
    out.mkdir()

    async def go() -> None:
        async with get("adb").open(device) as session:
            await session.run_job(job, out, lambda text: None)

    asyncio.run(go())
    assert check_result(job, out).device.machine
    assert not list((tmp_path / "sdcard").glob("job-*"))


# The form of the lines is that of LiteRT's benchmark_model; the figures are of no measurement.
BENCHMARK = """#!/bin/sh
case "$1" in --graph=*/artifact-0.tflite) ;; *) exit 9 ;; esac
echo 'INFO: STARTING!'
printf 'INFO: Inference timings in us: Init: 2127, First inference: 24813, '
echo 'Warmup (avg): 17513.8, Inference (avg): 17233.3'
echo 'INFO: Overall peak memory footprint (MB) via periodic monitoring: 12.5'
"""


@pytest.mark.parametrize("there", [BENCHMARK, "#!/bin/sh\necho 'ERROR: no delegate'; exit 1\n", None])
def test_the_litert_benchmark_binary_is_run_where_it_is_present(tmp_path: Path, adb: Path, there: str | None) -> None:
    binary = tmp_path / "benchmark_model"
    if there is not None:
        binary.write_text(there)
        binary.chmod(0o755)
    device = phone(adb, tmp_path)
    assert device.adb is not None
    device = device.model_copy(update={"adb": device.adb.model_copy(update={"benchmark": str(binary)})})
    job = make_job(tmp_path, device, runtime="litert")
    out = tmp_path / "out"
    out.mkdir()

    async def go() -> None:
        async with get("adb").open(device) as session:
            await session.run_job(job, out, lambda text: None)

    asyncio.run(go())
    work = check_result(job, out).work
    assert work is not None
    found, why = work.parts[0].benchmark, work.parts[0].no_benchmark
    if there == BENCHMARK:
        assert found is not None and why is None
        assert (found.mean_ms, found.init_ms, found.peak_mb) == (17.2333, 2.127, 12.5)
    elif there is None:
        assert found is None and why is not None and "is not on the device" in why
    else:
        assert found is None and why == "it ended with code 1: ERROR: no delegate"


def test_exit_codes_survive_an_adb_that_loses_them(tmp_path: Path, adb: Path) -> None:
    transport = AdbTransport(str(adb), "standin-1")
    answer = asyncio.run(transport.run(["sh", "-c", "echo 'a b'; exit 7"], timeout_s=20))
    assert (answer.code, answer.out) == (7, "a b\n")


def test_a_device_adb_does_not_see_and_a_missing_adb_are_told_apart(tmp_path: Path, adb: Path) -> None:
    async def open_it(device: Device) -> None:
        async with get("adb").open(device):
            pass

    with pytest.raises(ConnectionLost, match="not found"):
        asyncio.run(open_it(phone(adb, tmp_path, serial="other")))
    with pytest.raises(EnvironmentLacks, match="no program"):
        asyncio.run(open_it(phone(tmp_path / "gone", tmp_path)))


@pytest.mark.parametrize("kind", ["link", "folder", "large", "absent"])
def test_only_a_regular_file_within_its_limit_comes_back(tmp_path: Path, adb: Path, kind: str) -> None:
    there = tmp_path / "a $(touch pwned) file"
    if kind == "link":
        there.symlink_to("/etc/passwd")
    elif kind == "folder":
        there.mkdir()
    elif kind == "large":
        there.write_bytes(b"0" * 2000)
    transport = AdbTransport(str(adb), "standin-1")
    with pytest.raises(CorruptResult):
        asyncio.run(transport.pull(PurePosixPath(there), tmp_path / "here", limit=1000))
    assert not (Path.cwd() / "pwned").exists()
