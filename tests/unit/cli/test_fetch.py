"""`datk data fetch` against a local server that misbehaves in every way networks and archives do."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datk.data.fetch import DA2K, download, get, unpack
from datk.errors import DataError, EnvironmentLacks, UsageError
from datk.pipeline.fetching import fetch


@dataclass
class Web:
    """One file behind a server. cuts: how many bytes each of the next answers sends before the line goes dead."""

    body: bytes
    ranges: bool = True
    etag: str = '"v1"'
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


@pytest.fixture
def web() -> Iterator[Web]:
    state = Web(body=np.random.default_rng(0).bytes(300_000))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/file.zip")
                self.end_headers()
                return
            asked = self.headers.get("Range", "")
            state.asked.append(asked)
            if state.statuses and (code := state.statuses.pop(0)) != 200:
                self.send_error(code)
                return
            same = self.headers.get("If-Range", state.etag) == state.etag
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and state.ranges and same else 0
            if asked and state.ranges and same and start >= len(state.body):
                self.send_error(416)
                return
            rest = state.body[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.body) - 1}/{len(state.body)}")
            self.send_header("Content-Length", str(len(rest)))
            self.send_header("ETag", state.etag)
            self.end_headers()
            self.wfile.write(rest[: state.cuts.pop(0)] if state.cuts else rest)
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}/file.zip"
    yield state
    server.shutdown()
    server.server_close()


def pull(web: Web, path: Path, **more: Any) -> download.Downloaded:
    return download.download(web.url, path, sha256=more.pop("sha256", web.sha256), first_wait_s=0, timeout_s=5, **more)


def test_a_file_arrives_whole_and_leaves_nothing_beside(web: Web, tmp_path: Path) -> None:
    got = pull(web, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_bytes() == web.body and got.bytes == 300_000
    assert [p.name for p in tmp_path.iterdir()] == ["file.zip"]
    assert pull(web, tmp_path / "file.zip").bytes == 300_000 and len(web.asked) == 1  # there: not asked again


def test_cut_connections_are_resumed_by_ranges(web: Web, tmp_path: Path) -> None:
    web.cuts = [100_000, 50_000]
    pull(web, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_bytes() == web.body
    assert web.asked == ["", "bytes=100000-", "bytes=150000-"]


def test_a_later_call_goes_on_where_the_last_gave_up(web: Web, tmp_path: Path) -> None:
    web.cuts = [120_000] + [0] * download.ATTEMPTS
    with pytest.raises(EnvironmentLacks, match=r"120000 bytes are kept in file\.zip\.part") as caught:
        pull(web, tmp_path / "file.zip")
    assert caught.value.exit_code == 4 and not (tmp_path / "file.zip").exists()
    web.asked.clear()
    assert pull(web, tmp_path / "file.zip").resumed_from == 120_000
    assert web.asked == ["bytes=120000-"] and (tmp_path / "file.zip").read_bytes() == web.body


def test_a_server_without_ranges_starts_anew_and_still_arrives(web: Web, tmp_path: Path) -> None:
    web.ranges, web.cuts = False, [100_000]
    pull(web, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_bytes() == web.body and web.asked == ["", "bytes=100000-"]


def test_another_file_behind_the_address_is_not_glued_to_the_part(web: Web, tmp_path: Path) -> None:
    web.cuts = [100_000] + [0] * download.ATTEMPTS
    with pytest.raises(EnvironmentLacks):
        pull(web, tmp_path / "file.zip")
    web.body, web.etag, web.cuts = np.random.default_rng(1).bytes(200_000), '"v2"', []
    pull(web, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_bytes() == web.body


def test_a_part_longer_than_the_file_is_thrown_away(web: Web, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(bytes(400_000))
    (tmp_path / "file.zip.part.json").write_text(json.dumps({"url": web.url, "total": 1, "etag": ""}))
    pull(web, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_bytes() == web.body


def test_a_wrong_checksum_is_told_and_nothing_is_kept(web: Web, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected 0000"):
        pull(web, tmp_path / "file.zip", sha256="0" * 64)
    assert not list(tmp_path.iterdir())


def test_a_file_of_that_name_with_other_content_is_never_overwritten(web: Web, tmp_path: Path) -> None:
    (tmp_path / "file.zip").write_bytes(b"mine")
    with pytest.raises(DataError, match="there already"):
        pull(web, tmp_path / "file.zip")
    assert (tmp_path / "file.zip").read_bytes() == b"mine"


def test_a_busy_server_is_asked_again_and_a_refusal_is_told(web: Web, tmp_path: Path) -> None:
    web.statuses = [503, 429, 200]
    pull(web, tmp_path / "file.zip")
    web.statuses = [404]
    with pytest.raises(EnvironmentLacks, match="answers 404") as caught:
        pull(web, tmp_path / "other.zip")
    assert "--url" in (caught.value.hint or "")


def test_nobody_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacks, match="attempts without a byte") as caught:
        download.download("http://127.0.0.1:9/x.zip", tmp_path / "x.zip", sha256="0" * 64, first_wait_s=0)
    assert "run the same command again" in (caught.value.hint or "")


def test_a_full_disk_keeps_the_part_and_says_how_much_is_needed(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(EnvironmentLacks, match="disk is full: 0 MB more are needed"):
        pull(web, tmp_path / "file.zip")
    monkeypatch.undo()
    web.cuts = [100_000] + [0] * download.ATTEMPTS
    with pytest.raises(EnvironmentLacks):
        pull(web, tmp_path / "file.zip")
    real = Path.open

    class Full(io.BufferedWriter):
        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def opened(self: Path, mode: str = "r", *a: Any, **k: Any) -> Any:
        return Full(io.FileIO(self, "ab")) if mode == "ab" else real(self, mode, *a, **k)

    web.cuts = []
    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(EnvironmentLacks, match=r"100000 bytes are kept in file\.zip\.part"):
        pull(web, tmp_path / "file.zip")
    monkeypatch.undo()
    assert pull(web, tmp_path / "file.zip").resumed_from == 100_000


# ------------------------------------------------------------------------------------------------ unpacking


def archive(path: Path, members: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.filename = name  # ZipInfo cleans names; a hostile writer does not
            if change is not None:
                change(info)
            out.writestr(info, data)
    return path


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/tmp/evil.txt", "DA-2K/../../evil.txt", "C:/evil.txt", "DA-2K\\..\\..\\evil.txt"]
)
def test_a_member_that_leads_outside_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    bad = archive(tmp_path / "a.zip", {"DA-2K/ok.txt": b"ok", name: b"evil"})
    with pytest.raises(DataError, match="leads outside the folder; nothing was unpacked"):
        unpack.unpack(bad, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_links_doubles_bombs_and_damage_are_refused(tmp_path: Path) -> None:
    def link(info: zipfile.ZipInfo) -> None:
        info.external_attr = (stat.S_IFLNK | 0o777) << 16

    with pytest.raises(DataError, match="'x' is a link"):
        unpack.unpack(archive(tmp_path / "l.zip", {"x": b"/etc/passwd"}, link), tmp_path / "out")
    with pytest.raises(DataError, match="'A' is there twice"):
        unpack.unpack(archive(tmp_path / "d.zip", {"a": b"1", "A": b"2"}), tmp_path / "out")
    with pytest.raises(DataError, match="'bomb' unpacks to 8000000 bytes"):
        unpack.unpack(archive(tmp_path / "b.zip", {"bomb": bytes(8_000_000)}), tmp_path / "out")
    whole = archive(tmp_path / "c.zip", {"DA-2K/a": b"x" * 1000, "DA-2K/b": np.random.default_rng(0).bytes(5000)})
    data = bytearray(whole.read_bytes())
    data[3000:3010] = bytes(10)
    whole.write_bytes(data)
    with pytest.raises(DataError, match="'DA-2K/b' is damaged"):
        unpack.unpack(whole, tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_full_disk_while_unpacking_leaves_the_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = archive(tmp_path / "a.zip", {"DA-2K/a": b"1" * 500, "DA-2K/b": b"2" * 500})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(EnvironmentLacks, match="nothing was unpacked, the archive is kept"):
        unpack.unpack(good, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"] and good.is_file()


# ------------------------------------------------------------------------------------------------ the whole way


def test_fetched_da2k_is_read_by_the_benchmark_and_not_fetched_twice(web: Web, tmp_path: Path) -> None:
    from datk.evaluate.benchmarks import da2k

    pair = [{"point1": [1, 1], "point2": [2, 2], "closer_point": "point1"}]
    members = {
        "DA-2K/annotations.json": json.dumps({"images/indoor/a.jpg": pair}).encode(),
        "DA-2K/images/indoor/a.jpg": b"not looked at when loading",
    }
    web.body = archive(tmp_path / "made.zip", members).read_bytes()
    web.cuts = [100]
    out = tmp_path / "data"
    record, new = fetch(DA2K, out, url=web.url, sha256=web.sha256, first_wait_s=0)
    assert new and record.files == 2 and record.archive is None and not (out / "DA-2K.zip").exists()
    assert record.licence.startswith("Apache-2.0") and "Flickr" in record.notice
    assert da2k.load(out).n_pairs == 1
    asked = len(web.asked)
    assert fetch(DA2K, out, url=web.url, sha256=web.sha256)[1] is False and len(web.asked) == asked
    packed = fetch(DA2K, tmp_path / "zip", url=web.url, sha256=web.sha256, unpacked=False, first_wait_s=0)[0]
    assert packed.archive == "DA-2K.zip" and da2k.load(tmp_path / "zip").n_pairs == 1


def test_redirects_keep_the_range(web: Web, tmp_path: Path) -> None:
    web.cuts = [10_000]
    download.download(web.url.replace("file.zip", "moved"), tmp_path / "f", sha256=web.sha256, first_wait_s=0)
    assert web.asked == ["", "bytes=10000-"]


def test_da2k_is_pinned_to_its_published_revision() -> None:
    assert DA2K.revision == "528f83c26f02a6a7a11c5a036dfc9ee19907ebd9" and DA2K.revision in DA2K.url
    with pytest.raises(UsageError, match="cannot fetch 'da2'") as caught:
        get("da2")
    assert "did you mean 'da2k'" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="64 hex digits"):
        fetch(replace(DA2K), sha256="abc")


def test_the_command_prints_the_licence_first(web: Web, tmp_path: Path, datk: Any) -> None:
    web.body = archive(tmp_path / "made.zip", {"DA-2K/annotations.json": b"{}"}).read_bytes()
    ended = datk("data", "fetch", "da2k", "--out", "d", "--url", web.url, "--sha256", web.sha256, "--json")
    assert ended.code == 0, ended.err
    assert "licence: Apache-2.0" in ended.err and json.loads(ended.out)["sha256"] == web.sha256
    assert (tmp_path / "d" / "DA-2K" / "annotations.json").is_file()
