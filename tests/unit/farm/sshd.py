"""A real OpenSSH server on loopback, with keys and a device folder of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from datk.farm.inventory import Device, Limits, Ssh

SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").is_file() else None)


class Sshd:
    """One server; `stop`, `start` and `cut` are what the faults are made of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None
        for name in ("host", "client"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(command, check=True)
        shutil.copy(folder / "client.pub", folder / "authorized")
        self.know((folder / "host.pub").read_text())
        (folder / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/pid\n"
            f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            "PermitRootLogin prohibit-password\n"
            "Subsystem sftp internal-sftp\nLogLevel ERROR\n"
        )

    def know(self, public_key: str) -> None:
        """Write known_hosts with this key for the server."""
        kind, key = public_key.split()[:2]
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        assert SSHD is not None
        command = [SSHD, "-D", "-e", "-f", str(self.folder / "config")]
        self.process = subprocess.Popen(command, stderr=(self.folder / "log").open("ab"))
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < end and self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.02)

    def cut(self) -> int:
        """Kill every open session, as a crash of the device's network would; the server itself goes on."""
        assert self.process is not None
        children = [c for c in psutil.Process(self.process.pid).children() if c.name().startswith("sshd")]
        for child in children:
            for one in [child, *[c for c in child.children(recursive=True) if c.name().startswith("sshd")]]:
                one.kill()
        return len(children)

    def stop(self) -> None:
        """Kill the server and every session."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.cut()
            self.process.kill()
            self.process.wait()
            self.process = None

    def device(self, *, python: tuple[str, ...] = (sys.executable,), port: int | None = None, **more: object) -> Device:
        """This server as a device of a farm."""
        access = Ssh(
            host="127.0.0.1",
            port=port or self.port,
            user=getpass.getuser(),
            key=str(self.folder / "client"),
            known_hosts=str(self.folder / "known_hosts"),
            connect_timeout_s=3,
        )
        values = {
            "name": "board",
            "kind": "ssh",
            "root": str(self.root),
            "threads": 1,
            "limits": Limits(timeout_s=60),
            "ssh": access,
            "python": python,
        }
        return Device.model_validate(values | more)

    @property
    def root(self) -> Path:
        """The farm's folder on the device."""
        return self.folder / "device"

    def processes(self) -> list[str]:
        """Command lines of what runs on the device for the farm."""
        found = []
        for one in psutil.process_iter(["cmdline", "status"]):
            line = " ".join(one.info["cmdline"] or [])
            if str(self.root) in line and one.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(line)
        return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
