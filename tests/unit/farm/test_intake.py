"""What a hostile or broken device may send, and that this host takes none of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datk.farm.adapters import get
from datk.farm.adapters.base import clean_text
from datk.farm.adapters.local import LocalTransport
from datk.farm.agent import npy_header
from datk.farm.errors import CorruptResult, DeviceError
from datk.farm.intake import check_result, maps_of, read_result
from datk.farm.inventory import Device
from datk.farm.job import Job, remote_name
from datk.farm.session import RESULT_LIMIT

from .conftest import make_job


@pytest.fixture
def answered(tmp_path: Path, simulated: Device) -> tuple[Job, Path]:
    """A job and a folder with a good answer to it."""
    job, out = make_job(tmp_path, simulated), tmp_path / "out"
    out.mkdir()

    async def go() -> None:
        async with get("simulated").open(simulated) as session:
            await session.run_job(job, out, lambda text: None)

    asyncio.run(go())
    check_result(job, out)
    return job, out


def changed(out: Path, change: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads((out / "result.json").read_text())
    change(value)
    (out / "result.json").write_text(json.dumps(value))


TAMPERED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another job": lambda v: v.update(job="0" * 16),
    "another artifact": lambda v: v["work"]["parts"][0].update(sha256="0" * 64),
    "no parts": lambda v: v["work"].update(parts=[]),
    "another shape": lambda v: v["work"]["predictions"].update(shape=[3, 28, 14]),
    "a huge shape": lambda v: v["work"]["predictions"].update(shape=[10**9, 10**9, 10**9]),
    "no scale for a map": lambda v: v["work"]["predictions"]["scale"].pop(),
    "a scale of zero": lambda v: v["work"]["predictions"].update(scale=[0.0] * 3),
    "a scale that is no number": lambda v: v["work"]["predictions"].update(scale=["1"] * 3),
    "a shift of infinity": lambda v: v["work"]["predictions"].update(shift=[float("inf")] * 3),
    "a negative time": lambda v: v["work"]["parts"][0].update(times_ms=[[[-1.0, 1.0, 1.0]] * 2] * 2),
    "fewer rounds": lambda v: v["work"]["parts"][0].update(times_ms=[[[1.0, 1.0, 1.0]] * 2]),
    "an unknown key": lambda v: v.update(grade="passed"),
    "a grade of its own": lambda v: v["work"].update(verdict={"status": "passed"}),
    "another version": lambda v: v.update(schema_version=2),
    "a text without end": lambda v: v.update(log="x" * 30_000),
    "an integer of a million digits": lambda v: v.update(exit_code="1" * 10**6),
    "another digest": lambda v: v["work"]["predictions"].update(sha256="0" * 64),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_result_that_is_not_what_was_asked_for_is_refused(answered: tuple[Job, Path], name: str) -> None:
    job, out = answered
    changed(out, TAMPERED[name])
    with pytest.raises(CorruptResult):
        check_result(job, out)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"schema_version": NaN}', b"9" * 5000, b"PK\x03\x04"],
)
def test_what_is_no_result_at_all_is_refused_in_words(answered: tuple[Job, Path], data: bytes) -> None:
    job, out = answered
    (out / "result.json").write_bytes(data)
    with pytest.raises(CorruptResult, match=r"result\.json is not what the agent writes"):
        check_result(job, out)


@settings(max_examples=25)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_is_a_result_or_a_named_error(value: object) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "result.json").write_text(json.dumps(value))
        with pytest.raises(CorruptResult):
            read_result(Path(folder))


def test_an_oversize_result_is_not_even_parsed(answered: tuple[Job, Path]) -> None:
    job, out = answered
    with (out / "result.json").open("ab") as handle:
        handle.truncate(RESULT_LIMIT + 1)
    with pytest.raises(CorruptResult, match="larger than"):
        check_result(job, out)


def with_digest(out: Path, data: bytes) -> None:
    import hashlib

    (out / "predictions.npy").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    changed(out, lambda v: v["work"]["predictions"].update(sha256=digest))


def test_a_pickle_an_archive_or_another_dtype_in_place_of_the_maps_is_refused(answered: tuple[Job, Path]) -> None:
    job, out = answered
    size = job.prediction_bytes
    object_header = npy_header(job.prediction_shape).replace(b"'<f2'", b"'|O' ")
    for start in (b"PK\x03\x04", b"\x80\x04\x95", object_header, npy_header((3, 28, 14)), b"../../etc/passwd"):
        with_digest(out, start + bytes(size - len(start)))
        with pytest.raises(CorruptResult, match="not the header"):
            check_result(job, out)
    for length in (0, 10, size - 1, size + 1):
        with_digest(out, npy_header(job.prediction_shape).ljust(size + 1, b"\0")[:length])
        with pytest.raises(CorruptResult, match="bytes, expected"):
            check_result(job, out)


def test_maps_come_back_as_numpy_reads_them(answered: tuple[Job, Path]) -> None:
    job, out = answered
    stored = np.load(out / "predictions.npy")
    assert stored.dtype == np.float16 and stored.shape == job.prediction_shape
    np.testing.assert_array_equal(maps_of(check_result(job, out), out), stored.astype(np.float32))


@pytest.mark.parametrize("kind", ["link", "link out", "folder", "pipe", "absent", "too large"])
def test_only_a_regular_file_within_its_limit_is_pulled(tmp_path: Path, kind: str) -> None:
    import os

    there, here = tmp_path / "there", tmp_path / "here"
    (tmp_path / "real").write_bytes(b"0123456789")
    if kind == "link":
        there.symlink_to(tmp_path / "real")
    elif kind == "link out":
        there.symlink_to("/etc/passwd")
    elif kind == "folder":
        there.mkdir()
    elif kind == "pipe":
        os.mkfifo(there)
    elif kind == "too large":
        there.write_bytes(b"0" * 11)
    with pytest.raises(CorruptResult):
        asyncio.run(LocalTransport().pull(there, here, limit=10))  # type: ignore[arg-type]
    assert not here.exists() or here.stat().st_size <= 10


def test_nothing_already_there_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"new")
    (tmp_path / "here").symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        asyncio.run(LocalTransport().pull(tmp_path / "there", tmp_path / "here", limit=10))  # type: ignore[arg-type]
    assert (tmp_path / "precious").read_bytes() == b"old"


@given(st.binary(max_size=300))
def test_a_devices_words_hold_no_control_characters(raw: bytes) -> None:
    assert all(c.isprintable() or c in "\n\t" for c in clean_text(raw))
    assert "\x1b" not in clean_text(b"\x1b[2J" + raw)


def test_the_users_file_names_never_reach_the_device(tmp_path: Path, simulated: Device) -> None:
    job = make_job(tmp_path, simulated)
    for path in ("/x/$(reboot).onnx", "/x/a;b.tflite", "/x/../../etc/passwd", "/x/-rf.mlpackage", "/x/a\nb.onnx"):
        name = remote_name(job.candidate.model_copy(update={"path": path}), 0)
        assert name in ("artifact-0.onnx", "artifact-0.tflite", "artifact-0.mlpackage", "artifact-0.bin")


def test_every_trouble_of_a_device_is_a_datk_error_with_a_known_fate() -> None:
    for error in DeviceError.__subclasses__():
        assert {"retry", "counts", "quarantine"} <= set(dir(error)) and error.exit_code == 4
