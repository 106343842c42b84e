"""The clocks of a host. Leases and delays use the monotonic one, which a jump of the wall clock does not touch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from datk.farm.agent import start_time


class Clock:
    """Both clocks; tests put another one in its place."""

    def wall(self) -> float:
        """Seconds since 1970: for people, and for dates that must outlive a restart."""
        return time.time()

    def mono(self) -> float:
        """Seconds since this machine started, the same for all its processes."""
        return time.monotonic()


@cache
def boot_id() -> str:
    """Differs after every restart of this machine: monotonic seconds of another boot mean nothing."""
    path = Path("/proc/sys/kernel/random/boot_id")
    if path.is_file():
        return path.read_text(encoding="ascii").strip()
    if sys.platform == "darwin":
        done = subprocess.run(["sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=True)
        return done.stdout.strip()
    raise OSError("this system does not tell when it was started")


@dataclass(frozen=True)
class Owner:
    """One datk process on this machine, told apart from a later one with the same number."""

    boot: str
    pid: int
    started: str

    @classmethod
    def me(cls) -> Owner:
        """This process."""
        return cls(boot_id(), os.getpid(), start_time(os.getpid()) or "")

    @classmethod
    def parse(cls, text: str) -> Owner:
        """From str(owner)."""
        boot, pid, started = text.split("/", 2)
        return cls(boot, int(pid), started)

    def __str__(self) -> str:
        return f"{self.boot}/{self.pid}/{self.started}"

    @property
    def alive(self) -> bool:
        """Whether that process still runs."""
        return self.boot == boot_id() and start_time(self.pid) == self.started
