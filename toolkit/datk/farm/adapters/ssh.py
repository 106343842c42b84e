"""A device behind OpenSSH: keys, known_hosts, SFTP. An unknown or changed host key is refused before a byte is sent."""

from __future__ import annotations

import asyncio
import importlib.util
import shlex
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from datk.errors import EnvironmentLacks
from datk.farm.adapters.base import Adapter, Answer, Session, clean_text
from datk.farm.adapters.local import check_file, limited
from datk.farm.errors import (
    AccessRefused,
    ConnectionLost,
    CorruptResult,
    DeviceFull,
    HostKeyRefused,
    JobTimeout,
)
from datk.farm.inventory import Device, Ssh
from datk.farm.session import ShellSession

ROOT = "datk-farm"
KEEPALIVE_S = 5
"""Three unanswered keep-alives end a connection: a pulled cable is noticed within 20 s."""
BLOCK = 64 * 1024
SLOWEST_BYTES_S = 50_000
"""A transfer slower than this is taken for a hung device."""


def require_asyncssh() -> None:
    """Raise EnvironmentLacks (exit 4) with the pip line unless asyncssh is here."""
    if importlib.util.find_spec("asyncssh") is None:
        raise EnvironmentLacks("devices behind ssh need asyncssh, not installed here", hint='pip install "datk[farm]"')


class SshTransport:
    """One SSH connection with an SFTP channel."""

    def __init__(self, connection: Any, sftp: Any, name: str) -> None:
        self._connection = connection
        self._sftp = sftp
        self._name = name

    async def run(self, argv: Sequence[str], *, timeout_s: float, lifeline_s: float | None = None) -> Answer:
        """See Transport. Every word is quoted for the device's POSIX shell."""
        import asyncssh

        try:
            async with asyncio.timeout(timeout_s):
                child = await self._connection.create_process(shlex.join(argv), encoding=None)
                try:
                    return await self._answer(child, lifeline_s)
                finally:
                    child.close()
        except TimeoutError as error:
            raise JobTimeout(f"{self._name}: no answer after {timeout_s:g} s") from error
        except (OSError, asyncssh.Error) as error:
            raise ConnectionLost(f"{self._name}: {_words(error)}") from error

    async def _answer(self, child: Any, lifeline_s: float | None) -> Answer:
        feeder = asyncio.create_task(_feed(child, lifeline_s)) if lifeline_s is not None else None
        if feeder is None:
            child.stdin.write_eof()
        try:
            out, err = await asyncio.gather(limited(child.stdout), limited(child.stderr))
            await child.wait_closed()
        finally:
            if feeder is not None:
                feeder.cancel()
        if child.exit_status is None and child.exit_signal is None:
            raise ConnectionLost(f"{self._name}: the connection broke while the command ran")
        code = 137 if child.exit_status is None else int(child.exit_status)
        return Answer(code, clean_text(out), clean_text(err))

    async def mkdir(self, folders: Sequence[PurePosixPath]) -> None:
        """See Transport."""
        for folder in folders:
            async with self._sftp_errors(f"folder {folder} on {self._name}", 0):
                await self._sftp.makedirs(str(folder), exist_ok=True)

    async def push(self, local: Path, remote: PurePosixPath) -> None:
        """See Transport."""
        async with self._sftp_errors(f"{remote.name} to {self._name}", local.stat().st_size):
            await self._sftp.put(str(local), str(remote))

    async def pull(self, remote: PurePosixPath, local: Path, *, limit: int) -> None:
        """See Transport. The name is this host's; links are not followed, and reading stops at the limit."""
        async with self._sftp_errors(f"{remote.name} from {self._name}", limit):
            facts = await self._sftp.lstat(str(remote))
            check_file(remote.name, stat.S_ISREG(facts.permissions or 0), int(facts.size or 0), limit)
            got = 0
            async with self._sftp.open(str(remote), "rb") as source:
                with local.open("xb") as target:
                    while block := await source.read(BLOCK):
                        got += len(block)
                        check_file(remote.name, True, got, limit)
                        target.write(block)

    @asynccontextmanager
    async def _sftp_errors(self, what: str, size: int) -> AsyncIterator[None]:
        import asyncssh

        try:
            async with asyncio.timeout(60 + size / SLOWEST_BYTES_S):
                yield
        except TimeoutError as error:
            raise JobTimeout(f"{what}: the transfer hangs") from error
        except (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded) as error:
            raise DeviceFull(f"{what}: {_words(error)}") from error
        except asyncssh.SFTPNoSuchFile as error:
            raise CorruptResult(f"{what}: {_words(error)}") from error
        except (OSError, asyncssh.Error) as error:
            raise ConnectionLost(f"{what}: {_words(error)}") from error


async def _feed(child: Any, every_s: float) -> None:
    with suppress(OSError):
        while not child.is_closing():
            child.stdin.write(b".")
            await asyncio.sleep(every_s)


def _words(error: BaseException) -> str:
    return clean_text(str(getattr(error, "reason", None) or error).encode())[-300:] or type(error).__name__


@asynccontextmanager
async def connected(device: Device, access: Ssh) -> AsyncIterator[SshTransport]:
    """An open connection. Raises HostKeyRefused, AccessRefused, ConnectionLost, EnvironmentLacks."""
    require_asyncssh()
    import asyncssh

    known = Path(access.known_hosts).expanduser()
    if not known.is_file():
        raise EnvironmentLacks(
            f"{device.name}: {known} holds the host keys this device is known by, and is not there",
            hint=f"on a network you trust: ssh-keyscan -p {access.port} {access.host} >> {access.known_hosts}, then "
            "compare the fingerprint with the device's own",
        )
    options: dict[str, Any] = {"passphrase": access.passphrase.read()} if access.passphrase else {}
    if access.key is not None:
        options |= {"client_keys": [str(Path(access.key).expanduser())], "agent_path": None}
    try:
        async with asyncio.timeout(access.connect_timeout_s):
            connection = await asyncssh.connect(
                access.host,
                access.port,
                username=access.user,
                known_hosts=str(known),
                config=None,
                keepalive_interval=KEEPALIVE_S,
                keepalive_count_max=3,
                **options,
            )
            sftp = await connection.start_sftp_client()
    except TimeoutError as error:
        raise ConnectionLost(f"{device.name}: no answer within {access.connect_timeout_s:g} s") from error
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
        raise HostKeyRefused(
            f"{device.name}: the host key of {access.host}:{access.port} is not the one in {access.known_hosts} "
            f"({_words(error)}); nothing was sent",
            hint="compare fingerprints with the device's own before you change known_hosts",
        ) from error
    except (asyncssh.PermissionDenied, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise AccessRefused(f"{device.name}: {access.user} is not let in: {_words(error)}") from error
    except (OSError, asyncssh.Error) as error:
        raise ConnectionLost(f"{device.name}: {_words(error)}") from error
    try:
        yield SshTransport(connection, sftp, device.name)
    finally:
        connection.abort()
        with suppress(TimeoutError, OSError, asyncssh.Error):
            await asyncio.wait_for(connection.wait_closed(), timeout=5)


@asynccontextmanager
async def _open(device: Device) -> AsyncIterator[Session]:
    assert device.ssh is not None
    async with connected(device, device.ssh) as transport:
        yield ShellSession(transport, device, root=device.root or ROOT)


ADAPTER = Adapter(kind="ssh", title="a board or computer behind OpenSSH", figures="measured", open=_open)
