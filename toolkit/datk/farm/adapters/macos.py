"""A Mac behind OpenSSH: the agent runs packages through Core ML and reads its compute plan."""

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
    if not device.runtimes:
        device = device.model_copy(update={"runtimes": ("coreml", "litert", "onnxruntime")})
    async with connected(device, access) as transport:
        yield ShellSession(transport, device, root=device.root or ROOT)


ADAPTER = Adapter(kind="macos", title="a Mac behind OpenSSH", figures="measured", open=_open)
