"""Worker processes end when the one that started them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

OWNER = """
import multiprocessing, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from datk.measure.worker_process import end_with_parent

def pid():
    import os
    return os.getpid()

if __name__ == "__main__":
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=end_with_parent) as pool:
        Path(sys.argv[1]).write_text(str(pool.submit(pid).result()))
        time.sleep(60)
"""


def alive(pid: int) -> bool:
    if Path("/proc/self").exists():  # there a process that has ended but not been waited for shows as a zombie
        status = Path(f"/proc/{pid}/stat")
        return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_pool_worker_does_not_outlive_a_killed_owner(tmp_path: Path) -> None:
    (tmp_path / "owner.py").write_text(OWNER)
    told = tmp_path / "pid"
    owner = subprocess.Popen([sys.executable, str(tmp_path / "owner.py"), str(told)])
    deadline = time.monotonic() + 60
    while not (told.exists() and told.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = int(told.read_text())
    assert alive(worker)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(worker)
