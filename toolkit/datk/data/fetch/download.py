"""Download one file so that it is whole or not there: resumed by HTTP ranges, checked, renamed into place.

What has arrived lies in NAME.part, beside it NAME.part.json: address and entity tag it belongs to. A later call goes on
from there when the server answers the range with 206 for the same entity (RFC 9110, section 14), else it starts anew.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import IO, Any

from datk.artifact.files import write_json
from datk.errors import DataError, EnvironmentLacks

CHUNK = 1 << 20
ATTEMPTS = 6
"""Cuts in a row, without a byte in between, after which we give up."""
FIRST_WAIT_S = 1.0
TIMEOUT_S = 30.0

Progress = Callable[[int, int, str], None]
"""bytes there, bytes in all (0: unknown), what is going on."""


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """A file that is here, whole. resumed_from: bytes that an earlier call had left."""

    path: Path
    bytes: int
    sha256: str
    resumed_from: int
    url: str


@dataclass(kw_only=True)
class _Entity:
    """What the server says the file is."""

    total: int | None = None
    tag: str = ""
    linked_sha256: str = ""
    notes: list[str] = field(default_factory=list)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects and keeps the headers of each: large files' digests are announced before the last hop."""

    def __init__(self, seen: list[Message]) -> None:
        self._seen = seen

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        self._seen.append(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    url: str,
    path: Path,
    *,
    sha256: str,
    progress: Progress = lambda done, total, what: None,
    first_wait_s: float = FIRST_WAIT_S,
    timeout_s: float = TIMEOUT_S,
) -> Downloaded:
    """Fetch url to path, resuming what an earlier call left.

    sha256: hex digest the whole file must have. A file that is already there with that digest is not fetched again.
    first_wait_s: pause after the first cut; it doubles with each cut in a row.
    Raises DataError when what arrived has another digest (it is removed: resuming could never help),
    EnvironmentLacks when the server cannot be reached, refuses or keeps cutting, or the disk is full; then the part
    stays for the next call.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        if _digest(path) == sha256:
            return Downloaded(path=path, bytes=path.stat().st_size, sha256=sha256, resumed_from=0, url=url)
        raise DataError(
            f"{path}: there already, with another sha256 than {sha256[:16]}...",
            hint="move it away, then run the same command again",
        )
    part, about = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json")
    known = _known(about, url)
    if not known:
        part.unlink(missing_ok=True)
    start = part.stat().st_size if part.is_file() else 0
    _pull(url, part, about, known, progress, first_wait_s, timeout_s)
    digest = _digest(part)
    if digest != sha256:
        size = part.stat().st_size
        part.unlink()
        about.unlink(missing_ok=True)
        raise DataError(
            f"{url}: what arrived ({size} bytes) has sha256 {digest}, expected {sha256}; it was removed",
            hint="run the same command again; if it happens twice, the file at that address is another one",
        )
    with part.open("rb") as handle:
        os.fsync(handle.fileno())
    part.replace(path)
    about.unlink(missing_ok=True)
    return Downloaded(path=path, bytes=path.stat().st_size, sha256=digest, resumed_from=start, url=url)


def _pull(
    url: str, part: Path, about: Path, known: dict[str, Any], progress: Progress, wait_s: float, timeout_s: float
) -> None:
    """Ask until the part is as long as the server says the file is."""
    cuts = 0
    while True:
        at = part.stat().st_size if part.is_file() else 0
        try:
            done = _once(url, part, about, known, progress, timeout_s)
        except urllib.error.HTTPError as error:
            if error.code == 416 and at:  # our part is longer than the file, or the file changed
                part.unlink()
                known.clear()
                continue
            if error.code < 500 and error.code not in (408, 429):
                raise EnvironmentLacks(
                    f"{url}: the server answers {error.code} {error.reason}",
                    hint="is the address right? --url takes another one; --sha256 stays the same",
                ) from error
            reason: object = f"{error.code} {error.reason}"
        except (http.client.HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", None) or error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise _full(part, known) from error
        else:
            if done:
                return
            reason = "connection cut"
        now = part.stat().st_size if part.is_file() else 0
        cuts = 0 if now > at else cuts + 1
        if cuts >= ATTEMPTS:
            raise EnvironmentLacks(
                f"{url}: {ATTEMPTS} attempts without a byte ({reason}); {now} bytes are kept in {part.name}",
                hint="check the network, then run the same command again: it goes on from there",
            )
        progress(now, int(known.get("total") or 0), f"{reason}; again from byte {now}")
        time.sleep(wait_s * 2 ** max(0, cuts - 1) if wait_s else 0)


def _once(url: str, part: Path, about: Path, known: dict[str, Any], progress: Progress, timeout_s: float) -> bool:
    """One request. Returns whether the file is whole; False when the connection ended early."""
    at = part.stat().st_size if part.is_file() else 0
    if at and known.get("total") == at:
        return True
    headers = {"User-Agent": "datk", "Accept-Encoding": "identity"}
    if at:
        headers["Range"] = f"bytes={at}-"
        if known.get("etag"):
            headers["If-Range"] = str(known["etag"])
    redirects: list[Message] = []
    opener = urllib.request.build_opener(_Redirects(redirects))
    with opener.open(urllib.request.Request(url, headers=headers), timeout=timeout_s) as response:
        total, offset = _extent(response.status, response.headers)
        if offset != at:  # no ranges here, or another entity: from the beginning
            at = 0
        known.update(url=url, total=total, etag=_strong_tag(response.headers))
        write_json(about, known)
        room = shutil.disk_usage(part.parent).free
        if total is not None and total - at > room:
            raise _full(part, known)
        with part.open("ab" if at else "wb") as handle:
            while chunk := response.read(CHUNK):
                handle.write(chunk)
                at += len(chunk)
                progress(at, total or 0, "")
    return total is None or at == total


def _extent(status: int, headers: Mapping[str, str]) -> tuple[int | None, int]:
    """(bytes of the whole file or None, first byte of this answer)."""
    if status == 206:
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", headers.get("Content-Range", "").strip())
        if match:
            return (None if match[3] == "*" else int(match[3])), int(match[1])
    length = headers.get("Content-Length")
    return (int(length) if length and length.isdigit() else None), 0


def _strong_tag(headers: Mapping[str, str]) -> str:
    tag = headers.get("ETag", "")
    return "" if tag.startswith("W/") else tag


def _known(about: Path, url: str) -> dict[str, Any]:
    """What an earlier call wrote about the part, if it was the same address."""
    try:
        value = json.loads(about.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) and value.get("url") == url else {}


def _full(part: Path, known: Mapping[str, Any]) -> EnvironmentLacks:
    have = part.stat().st_size if part.is_file() else 0
    free = shutil.disk_usage(part.parent).free
    total = known.get("total")
    needed = f"{(int(total) - have) / 1e6:.0f} MB more are needed" if total else "more room is needed"
    return EnvironmentLacks(
        f"{part.parent}: the disk is full: {needed}, {free / 1e6:.0f} MB are free; "
        f"{have} bytes are kept in {part.name}",
        hint="make room or name another place with --out, then run the same command again",
    )


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
