"""Devices behind a real sshd when things break: no job lost, none recorded twice, nothing left there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datk.farm.adapters import get
from datk.farm.errors import AccessRefused, HostKeyRefused
from datk.farm.intake import check_result
from datk.farm.inventory import Device, Limits
from datk.farm.job import Job
from datk.farm.scheduler import Pace, drain
from datk.farm.store import JobRow, Store

from .conftest import make_job
from .sshd import SSHD, Sshd

pytestmark = pytest.mark.skipif(SSHD is None, reason="no sshd here: apt-get install openssh-server")
FAST = Pace(renew_s=0.05, backoff_s=0.2, busy_s=0.2, poll_s=0.05)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    (tmp_path / "ssh").mkdir()
    server = Sshd(tmp_path / "ssh")
    server.start()
    yield server
    server.stop()


def until(what: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def first_time(tmp_path: Path, code: str) -> tuple[str, ...]:
    """A device's Python whose first worker does `code`; later ones are sound."""
    site = tmp_path / "site"
    site.mkdir(exist_ok=True)
    flag = site / "flag"
    (site / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'work' in sys.orig_argv:\n"
        "    import os\n"
        "    try:\n"
        f"        os.close(os.open({str(flag)!r}, os.O_CREAT | os.O_EXCL))\n"
        "        first = True\n"
        "    except FileExistsError:\n"
        "        first = False\n"
        "    if first:\n" + "".join(f"        {line}\n" for line in code.splitlines())
    )
    return ("env", f"PYTHONPATH={site}", sys.executable)


def has_begun(tmp_path: Path) -> bool:
    """Whether the first worker is at its `code`; when the process list first shows it, it may not be."""
    return (tmp_path / "site" / "flag").exists()


HANG = "import time\ntime.sleep(120)"


class Running:
    """drain() in a thread, so that a test can break things meanwhile."""

    def __init__(self, store: Path, job: Job, device: Device) -> None:
        self.ids = Store(store).add([job])
        self._path, self._device = store, device
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            asyncio.run(drain(Store(self._path), self.ids, {self._device.name: self._device}, pace=FAST))
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            self.error = error

    def ended(self, seconds: float = 240) -> JobRow:
        self.thread.join(seconds)
        assert not self.thread.is_alive() and self.error is None, self.error
        return Store(self._path).rows(self.ids)[0]


def whole(tmp_path: Path, sshd: Sshd, row: JobRow, *, attempts: int) -> None:
    """The job is recorded once, the device is empty and can be used again."""
    store = Store(tmp_path / "farm")
    assert (row.state, row.attempts) == ("done", attempts), (row, store.events(row.id))
    assert [p.name for p in store.results.iterdir()] == [row.folder]
    until(lambda: not sshd.processes(), 20)
    until(lambda: not list(sshd.root.glob("job-*")), 20)
    again = make_job(tmp_path, sshd.device(), salt="afterwards")
    assert Running(tmp_path / "farm", again, sshd.device()).ended().state == "done"


def test_a_board_behind_openssh_answers_and_a_session_killed_in_mid_run_is_made_good(
    tmp_path: Path, sshd: Sshd
) -> None:
    device = sshd.device(python=first_time(tmp_path, HANG))
    run = Running(tmp_path / "farm", make_job(tmp_path, device, baseline=True), device)
    until(lambda: has_begun(tmp_path))
    assert sshd.cut() > 0
    whole(tmp_path, sshd, run.ended(), attempts=2)


def test_an_unknown_or_changed_host_key_is_refused_before_anything_is_sent(tmp_path: Path, sshd: Sshd) -> None:
    async def probe() -> None:
        async with get("ssh").open(sshd.device()) as session:
            await session.probe()

    asyncio.run(probe())
    sshd.know((sshd.folder / "client.pub").read_text())  # another key than the server's
    subprocess.run(["rm", "-r", str(sshd.root)], check=True)
    for known in (None, ""):
        if known is not None:
            (sshd.folder / "known_hosts").write_text(known)
        with pytest.raises(HostKeyRefused, match="nothing was sent"):
            asyncio.run(probe())
    assert not sshd.root.exists()
    row = Running(tmp_path / "farm", make_job(tmp_path, sshd.device()), sshd.device()).ended()
    assert (row.state, row.attempts) == ("failed", 1)  # never tried again: it may be an attack


def test_a_user_whose_key_is_not_authorised_is_told_so(tmp_path: Path, sshd: Sshd) -> None:
    (sshd.folder / "authorized").write_text("")

    async def probe() -> None:
        async with get("ssh").open(sshd.device()) as session:
            await session.probe()

    with pytest.raises(AccessRefused, match="not let in"):
        asyncio.run(probe())


@pytest.mark.slow
@pytest.mark.parametrize("whole_server", [False, True])
def test_sshd_killed_in_mid_transfer(tmp_path: Path, sshd: Sshd, whole_server: bool) -> None:
    device = sshd.device()
    job = make_job(tmp_path, device, n=100_000)
    run = Running(tmp_path / "farm", job, device)
    until(lambda: any(p.stat().st_size > 0 for p in sshd.root.glob("job-*/inputs.npy")))
    if whole_server:
        sshd.stop()
        time.sleep(0.3)
        sshd.start()
    else:
        sshd.cut()
    row = run.ended()
    assert (row.state, row.attempts >= 2) == ("done", True)
    until(lambda: not sshd.processes(), 20)
    # A host cannot clean up behind a cut; the next job's sweep does, once the remains are old.
    for folder in sshd.root.glob("job-*"):
        os.utime(folder, (0, 0))
    after = make_job(tmp_path, device, salt="afterwards")
    assert Running(tmp_path / "farm", after, device).ended().state == "done"
    assert not list(sshd.root.glob("job-*"))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["reset", "silence"])
def test_a_connection_that_is_cut(tmp_path: Path, sshd: Sshd, how: str) -> None:
    async def proxy(port: list[int], broken: threading.Event, ready: threading.Event) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, here = await asyncio.open_connection("127.0.0.1", sshd.port)
            is_first = not served
            served.append(1)

            async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while block := await source.read(65536):
                    while is_first and broken.is_set():
                        if how == "reset":
                            writer.transport.abort()
                            here.transport.abort()
                            return
                        await asyncio.sleep(3600)  # a pulled cable: no word to either side
                    sink.write(block)
                    await sink.drain()
                sink.close()

            await asyncio.gather(pump(reader, here), pump(there, writer), return_exceptions=True)

        served: list[int] = []
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port.append(server.sockets[0].getsockname()[1])
        ready.set()
        await asyncio.sleep(600)

    port: list[int] = []
    broken, ready = threading.Event(), threading.Event()
    threading.Thread(target=lambda: asyncio.run(proxy(port, broken, ready)), daemon=True).start()
    assert ready.wait(5)
    known = (sshd.folder / "known_hosts").read_text().replace(str(sshd.port), str(port[0]))
    with (sshd.folder / "known_hosts").open("a") as handle:
        handle.write(known)
    device = sshd.device(python=first_time(tmp_path, HANG), port=port[0])
    run = Running(tmp_path / "farm", make_job(tmp_path, device), device)
    until(lambda: has_begun(tmp_path))
    broken.set()
    row = run.ended()
    assert row.state == "done", (row, Store(tmp_path / "farm").events(row.id))
    whole(tmp_path, sshd, row, attempts=2)


@pytest.mark.slow
def test_a_full_disk_sets_the_device_aside_and_says_so(tmp_path: Path, sshd: Sshd) -> None:
    sshd.root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(sshd.root)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small tmpfs here")
    try:
        device = sshd.device()
        row = Running(tmp_path / "farm", make_job(tmp_path, device), device).ended()
        assert row.state == "failed" and "MB free" in row.error
        store = Store(tmp_path / "farm")
        assert [q.device for q in store.quarantined()] == ["board"]
        assert not list(sshd.root.glob("job-*")) and not sshd.processes()
    finally:
        subprocess.run(["umount", str(sshd.root)], check=True)
    store.release("board")
    assert Running(tmp_path / "farm", make_job(tmp_path, device), device).ended().state == "done"


@pytest.mark.slow
def test_a_disk_that_fills_up_while_the_artifact_runs(
    tmp_path: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    sshd.root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(sshd.root)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small tmpfs here")
    try:
        monkeypatch.setattr(Job, "bytes_needed", property(lambda self: 0))  # the check beforehand would refuse it
        device = sshd.device()
        for n, where in ((3000, "predictions"), (6000, "inputs")):  # 3.5 MB and 2.4 MB; 7 MB
            row = Running(tmp_path / "farm", make_job(tmp_path, device, n=n), device).ended()
            assert row.state == "failed", (where, row)
            until(lambda: not list(sshd.root.glob("job-*")) and not sshd.processes(), 20)
            Store(tmp_path / "farm").release("board")
    finally:
        subprocess.run(["umount", str(sshd.root)], check=True)


@pytest.mark.slow
def test_another_architecture_than_the_inventorys_runs_nothing(tmp_path: Path, sshd: Sshd) -> None:
    device = sshd.device(arch="armv7l")
    row = Running(tmp_path / "farm", make_job(tmp_path, device), device).ended()
    assert (row.state, row.attempts) == ("failed", 1) and "the inventory says armv7l" in row.error
    assert not list(sshd.root.glob("job-*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "os.abort()",
        "import atexit\n"
        "def spoil():\n"
        "    with open('predictions.npy', 'r+b') as handle:\n"
        "        handle.seek(200)\n"
        "        handle.write(b'spoilt')\n"
        "atexit.register(spoil)",
    ],
    ids=["crash", "corrupt"],
)
def test_an_agent_that_crashes_or_a_result_that_is_spoilt_is_tried_again(tmp_path: Path, sshd: Sshd, code: str) -> None:
    device = sshd.device(python=first_time(tmp_path, code))
    whole(tmp_path, sshd, Running(tmp_path / "farm", make_job(tmp_path, device), device).ended(), attempts=2)


@pytest.mark.slow
def test_a_job_that_hangs_is_ended_there_and_tried_again(tmp_path: Path, sshd: Sshd) -> None:
    device = sshd.device(python=first_time(tmp_path, HANG), limits=Limits(timeout_s=3))
    whole(tmp_path, sshd, Running(tmp_path / "farm", make_job(tmp_path, device), device).ended(), attempts=2)


@pytest.mark.slow
def test_a_device_that_hangs_is_set_aside(tmp_path: Path, sshd: Sshd) -> None:
    assert sshd.process is not None
    sshd.process.send_signal(signal.SIGSTOP)
    device = sshd.device(limits=Limits(timeout_s=5, attempts=2))
    row = Running(tmp_path / "farm", make_job(tmp_path, device), device).ended()
    assert (row.state, row.attempts) == ("failed", 2) and "no answer within 3 s" in row.error
    store = Store(tmp_path / "farm")
    assert store.quarantined()[0].device == "board"
    sshd.process.send_signal(signal.SIGCONT)
    store.release("board")
    assert Running(tmp_path / "farm", make_job(tmp_path, device), device).ended().state == "done"


_HOST = """
import asyncio, json, sys
from pathlib import Path
from datk.farm.inventory import Device
from datk.farm.scheduler import drain
from datk.farm.store import Store
device = Device.model_validate_json(sys.argv[3])
asyncio.run(drain(Store(Path(sys.argv[1])), json.loads(sys.argv[2]), {device.name: device}))
"""


@pytest.mark.slow
def test_a_host_killed_with_sigkill_leaves_nothing_there_and_the_next_goes_on(tmp_path: Path, sshd: Sshd) -> None:
    device = sshd.device(python=first_time(tmp_path, HANG))
    job = make_job(tmp_path, device)
    ids = Store(tmp_path / "farm").add([job])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [str(tmp_path / "farm"), json.dumps(ids), device.model_dump_json()]
    host = subprocess.Popen([sys.executable, "-c", _HOST, *words], env=env)
    until(lambda: has_begun(tmp_path), 30)
    host.send_signal(signal.SIGKILL)
    host.wait()
    until(lambda: not sshd.processes(), 20)  # its standard input ended: the supervisor ends the job
    until(lambda: not list(sshd.root.glob("job-*")), 20)
    row = Running(tmp_path / "farm", job, device).ended()
    whole(tmp_path, sshd, row, attempts=1)


@pytest.mark.slow
def test_two_hosts_with_queues_of_their_own_share_one_device_in_turn(tmp_path: Path, sshd: Sshd) -> None:
    slow = first_time(tmp_path, "import time\ntime.sleep(3)")
    device = sshd.device(python=slow)
    one = Running(tmp_path / "farm", make_job(tmp_path, device), device)
    until(lambda: has_begun(tmp_path))
    two = Running(tmp_path / "farm2", make_job(tmp_path, device), device)
    second = two.ended()
    assert one.ended().state == second.state == "done" and second.attempts == 1
    assert any("another job holds this device" in text for _, text in Store(tmp_path / "farm2").events(second.id))


@pytest.mark.slow
def test_cancelling_ends_what_runs_on_the_device(tmp_path: Path, sshd: Sshd) -> None:
    device = sshd.device(python=first_time(tmp_path, HANG))
    run = Running(tmp_path / "farm", make_job(tmp_path, device), device)
    until(lambda: has_begun(tmp_path))
    assert Store(tmp_path / "farm").cancel(run.ids) == 1
    assert run.ended().state == "cancelled"
    assert not sshd.processes() and not list(sshd.root.glob("job-*"))


@pytest.mark.slow
def test_names_full_of_shell_characters_stay_names(tmp_path: Path, sshd: Sshd) -> None:
    hostile = tmp_path / "a $(touch pwned); 'b' \"c\" `id`\t-rf"
    hostile.mkdir()
    device = sshd.device(root=str(sshd.folder / "dev ice; touch pwned; $(id) 'x'"))
    job = make_job(hostile, device)
    out = tmp_path / "out"
    out.mkdir()

    async def go() -> None:
        async with get("ssh").open(device) as session:
            await session.run_job(job, out, lambda text: None)

    asyncio.run(go())
    check_result(job, out)
    assert not [p for p in (tmp_path, sshd.folder, Path.home(), Path.cwd()) if (p / "pwned").exists()]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["link", "folder", "endless"])
def test_a_device_that_sends_a_link_a_folder_or_no_end_writes_nothing_here(
    tmp_path: Path, sshd: Sshd, what: str
) -> None:
    (tmp_path / "secret").write_text("the host's own")
    spoil = {
        "link": f"os.remove('predictions.npy'); os.symlink({str(tmp_path / 'secret')!r}, 'predictions.npy')",
        "folder": "os.remove('predictions.npy'); os.makedirs('predictions.npy/x')",
        "endless": "handle = open('predictions.npy', 'ab'); handle.truncate(10**9); handle.close()",
    }[what]
    code = f"import atexit\ndef spoil():\n    {spoil}\natexit.register(spoil)"
    device = sshd.device(python=first_time(tmp_path, code), limits=Limits(timeout_s=20, attempts=1))
    row = Running(tmp_path / "farm", make_job(tmp_path, device), device).ended()
    assert row.state == "failed" and row.error.startswith("CorruptResult: predictions.npy"), row
    assert not list(Store(tmp_path / "farm").results.iterdir())
