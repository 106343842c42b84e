"""Files made on a device by a script that came with an artifact: right ones come back, nothing else, nothing stays."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from datk.artifact.files import sha256_file
from datk.farm.build_job import BuildJob, SentFile, WantedFile, parse_job
from datk.farm.errors import CorruptResult, DeviceError, JobFailed, WrongDevice
from datk.farm.intake import check_built
from datk.farm.inventory import Device, Limits
from datk.farm.scheduler import drain
from datk.farm.store import Store

from .conftest import make_job
from .sshd import SSHD, Sshd
from .test_ssh_faults import FAST, HANG, Running, first_time, has_begun, sshd, until  # noqa: F401 - sshd is a fixture

GOOD = """
import json, sys
from pathlib import Path
data = Path("input.bin").read_bytes()
Path("made.bin").write_bytes(data[::-1])
Path("answer.json").write_text(json.dumps({"detail": "all \x1b[31mwell", "words": sys.argv[1:]}))
"""


def build_job(folder: Path, device: Device, script: str = GOOD, *, salt: str = "") -> BuildJob:
    (folder / "script.py").write_text(script)
    (folder / "input.bin").write_bytes(bytes(range(256)))
    files = tuple(
        SentFile(name=p.name, path=str(p), sha256=sha256_file(p), bytes=p.stat().st_size)
        for p in (folder / "script.py", folder / "input.bin")
    )
    return BuildJob(
        device=device,
        runtime="onnxruntime",
        artifact="jetson-fp16",
        files=files,
        script="script.py",
        arguments=("--word", "$(touch pwned); 'x'"),
        results=(WantedFile(name="made.bin", limit=1000), WantedFile(name="answer.json", limit=1000)),
        answer="answer.json",
        salt=salt,
    )


def run_once(tmp_path: Path, job: BuildJob) -> Path:
    """The results' folder, or the error the scheduler would have seen."""
    from datk.farm.adapters import get

    out = tmp_path / "out"
    out.mkdir()

    async def go() -> None:
        async with get(job.device.kind).open(job.device) as session:
            await session.run_job(job, out, lambda text: None)

    asyncio.run(go())
    check_built(job, out)
    return out


def test_what_the_script_made_comes_back_with_its_hash_and_the_device_is_left_empty(
    tmp_path: Path, local: Device
) -> None:
    out = run_once(tmp_path, build_job(tmp_path, local))
    assert (out / "made.bin").read_bytes() == bytes(range(256))[::-1]
    assert json.loads((out / "answer.json").read_text())["words"] == ["--word", "$(touch pwned); 'x'"]
    assert not list((tmp_path / "device").glob("job-*")) and not Path("pwned").exists()


def test_the_script_finds_the_modules_sent_beside_it(tmp_path: Path, local: Device) -> None:
    """The Jetson's comes in parts."""
    part = tmp_path / "a_part.py"
    part.write_text("word = 'from the part'\n")
    job = build_job(tmp_path, local, "import a_part\n" + GOOD + "assert a_part.word == 'from the part'\n")
    sent = SentFile(name=part.name, path=str(part), sha256=sha256_file(part), bytes=part.stat().st_size)
    out = run_once(tmp_path, job.model_copy(update={"files": (*job.files, sent)}))
    assert (out / "made.bin").is_file()


def test_both_kinds_of_job_are_read_back_from_the_queue_and_keep_their_keys(tmp_path: Path, local: Device) -> None:
    for job in (build_job(tmp_path, local), make_job(tmp_path, local)):
        again = parse_job(job.model_dump_json())
        assert type(again) is type(job) and again.key == job.key
    assert build_job(tmp_path, local).key != build_job(tmp_path, local, salt="10.7").key


@pytest.mark.parametrize(
    ("last", "error", "words"),
    [
        ("sys.exit(3)", None, ""),  # made and found wrong: kept for the host to judge
        ("sys.exit(4)", WrongDevice, "all .*well"),
        ("sys.exit(1)", JobFailed, "all .*well"),
        ("Path('answer.json').unlink(); print('out of memory'); sys.exit(1)", JobFailed, "out of memory"),
        ("Path('made.bin').unlink()", CorruptResult, "left no made.bin"),
        ("Path('made.bin').unlink(); Path('made.bin').symlink_to('/etc/passwd')", CorruptResult, "left no made.bin"),
        ("Path('made.bin').write_bytes(bytes(1001))", CorruptResult, "at most 1000"),
        ("Path('answer.json').write_text('{' * 900); sys.exit(1)", CorruptResult, "no sound JSON"),
        (
            "import atexit; atexit.register(lambda: Path('made.bin').write_bytes(bytes(256)))",
            CorruptResult,
            "sha256 is not the one",
        ),
        (
            "import atexit, os\ndef spoil():\n    os.remove('made.bin')\n    os.symlink('/etc/passwd', 'made.bin')\n"
            "atexit.register(spoil)",
            CorruptResult,
            "made.bin",
        ),
    ],
)
def test_how_the_script_ends_and_what_it_leaves_decide(
    tmp_path: Path, local: Device, last: str, error: type[DeviceError] | None, words: str
) -> None:
    job = build_job(tmp_path, local, GOOD + last + "\n")
    if error is None:
        assert (run_once(tmp_path, job) / "made.bin").is_file()
        return
    with pytest.raises(error, match=words) as caught:
        run_once(tmp_path, job)
    assert "\x1b" not in caught.value.message


def test_the_queue_runs_it_records_it_once_and_a_crash_is_tried_again(tmp_path: Path, local: Device) -> None:
    crash = GOOD.replace(
        "data =",
        "flag = Path('../../crashed')\nif not flag.exists():\n    import os\n    flag.touch()\n    os.abort()\ndata =",
    )
    job = build_job(tmp_path, local, crash)
    store = Store(tmp_path / "farm")
    for attempts in (2, 2):  # the second time nothing is run
        ids = store.add([job])
        asyncio.run(drain(store, ids, {local.name: local}, pace=FAST))
        (row,) = store.rows(ids)
        assert (row.state, row.attempts) == ("done", attempts)
    assert sorted(p.name for p in (store.results / row.folder).iterdir()) == ["answer.json", "made.bin", "result.json"]


needs_sshd = pytest.mark.skipif(SSHD is None, reason="no sshd here: apt-get install openssh-server")


@needs_sshd
def test_cancelling_a_build_behind_sshd_ends_it_there(tmp_path: Path, sshd: Sshd) -> None:  # noqa: F811
    device = sshd.device()
    run = Running(tmp_path / "farm", build_job(tmp_path, device, HANG), device)
    until(lambda: any(" work " in line for line in sshd.processes()))
    assert Store(tmp_path / "farm").cancel(run.ids) == 1
    assert run.ended().state == "cancelled"
    assert not sshd.processes() and not list(sshd.root.glob("job-*"))
    again = build_job(tmp_path, device, salt="afterwards")
    assert Running(tmp_path / "farm", again, device).ended().state == "done"


@pytest.mark.slow
@needs_sshd
@pytest.mark.parametrize("fault", ["cut", "deadline"])
def test_a_build_that_is_cut_off_or_hangs_is_ended_there_and_made_good(
    tmp_path: Path,
    sshd: Sshd,  # noqa: F811
    fault: str,
) -> None:
    limits = Limits(timeout_s=3 if fault == "deadline" else 60)
    device = sshd.device(python=first_time(tmp_path, HANG), limits=limits)
    run = Running(tmp_path / "farm", build_job(tmp_path, device), device)
    until(lambda: has_begun(tmp_path))
    if fault == "cut":
        assert sshd.cut() > 0
    row = run.ended()
    assert (row.state, row.attempts) == ("done", 2)
    until(lambda: not sshd.processes() and not list(sshd.root.glob("job-*")), 20)


@pytest.mark.slow
@needs_sshd
def test_two_hosts_never_build_on_one_device_at_a_time(tmp_path: Path, sshd: Sshd) -> None:  # noqa: F811
    device = sshd.device()
    one = Running(tmp_path / "farm", build_job(tmp_path, device, "import time\ntime.sleep(3)\n" + GOOD), device)
    until(lambda: any(" work " in line for line in sshd.processes()))
    (tmp_path / "two").mkdir()
    two = Running(tmp_path / "farm2", build_job(tmp_path / "two", device), device)
    second = two.ended()
    assert one.ended().state == second.state == "done" and second.attempts == 1
    assert any("another job holds this device" in text for _, text in Store(tmp_path / "farm2").events(second.id))
