"""An ARM64 system in software behind a real sshd: right answers of real ARM code, but no device's latency."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from datk.farm.adapters.base import Adapter, Session
from datk.farm.adapters.ssh import ROOT, connected
from datk.farm.inventory import Device
from datk.farm.session import ShellSession


@asynccontextmanager
async def _open(device: Device) -> AsyncIterator[Session]:
    access = device.ssh
    assert access is not None
    device = device.model_copy(update={"arch": device.arch or "aarch64"})
    async with connected(device, access) as transport:
        yield ShellSession(transport, device, root=device.root or ROOT)


ADAPTER = Adapter(
    kind="emulated-arm64",
    title="ARM64 in software (QEMU) behind OpenSSH; its latency is no device's",
    figures="emulated",
    open=_open,
)
