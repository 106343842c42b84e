"""Promotion follows the verdict; whoever overrides it is kept, for that very artifact."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from datk.artifact.files import write_json
from datk.artifact.promotion import OVERRIDES, PROMOTED, read_overrides, read_promoted
from datk.errors import DataError, GateFailed, UsageError
from datk.evaluate.target_verdict import PrecisionVerdict, TargetVerdict
from datk.pipeline.execute import locked
from datk.pipeline.models import promoted_artifact
from datk.pipeline.promotion import promote, refresh

SENTENCE = "ship fp16; int8 rejected: 1.06x for -1.2 pt"


def judge(
    run: Path,
    target: str = "tflite",
    *,
    ship: str | None = "fp16",
    int8: str = "b" * 64,
    size: tuple[int, int] = (28, 42),
) -> None:
    """A verdict on fp16 and int8 as the stage leaves it."""
    rows = tuple(
        PrecisionVerdict(
            precision=p, artifact=f"50-export-{target}-{p}", sha256=digest, judged_by="toy", passed=ship is not None,
            status="ship" if p == ship else "rejected", words="", metrics={},
        )
        for p, digest in (("fp16", "a" * 64), ("int8", int8))
    )  # fmt: skip
    value = TargetVerdict(
        target=target, input_size=size, ship=ship, base="fp16", sentence=SENTENCE, speed_by="", rows=rows
    )
    folder = run / f"65-verdict-{target}-{size[0]}x{size[1]}"
    write_json(folder / "verdict.json", value.model_dump(mode="json"))
    write_json(folder / "manifest.json", {})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    judge(tmp_path)
    refresh(tmp_path)
    return tmp_path


def force(run: Path, precision: str = "int8", **more: Any) -> Any:
    words = {"force": True, "who": "Ada", "why": "the NPU has int8 alone", "size": None} | more
    return promote(run, "tflite", precision, **words)


def test_the_verdict_decides_what_is_promoted_and_says_why(run: Path) -> None:
    (promoted,) = read_promoted(run)
    assert (promoted.precision, promoted.by, promoted.sha256) == ("fp16", None, "a" * 64)
    assert promoted.why == promoted.verdict == f"tflite 28x42: {SENTENCE}"
    assert promoted_artifact(run, "tflite") == run / "50-export-tflite-fp16"


def test_what_the_verdict_rejects_is_not_promoted_without_force(run: Path) -> None:
    with pytest.raises(GateFailed, match=r"int8 rejected: 1\.06x") as told:
        force(run, force=False)
    assert told.value.exit_code == 3 and "--force --who" in str(told.value.hint)
    assert read_promoted(run)[0].precision == "fp16" and not (run / OVERRIDES).exists()


@pytest.mark.parametrize(("more", "named"), [({"who": None}, "--who"), ({"why": "  "}, "--why")])
def test_force_needs_a_name_and_a_reason(run: Path, more: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        force(run, **more)
    assert read_overrides(run) == []


def test_an_override_records_who_overrode_what_and_is_what_a_reader_gets(run: Path) -> None:
    force(run)
    (entry,) = read_overrides(run)
    assert (entry.by, entry.why, entry.precision, entry.instead_of) == (
        "Ada", "the NPU has int8 alone", "int8", "fp16",
    )  # fmt: skip
    assert entry.verdict == f"tflite 28x42: {SENTENCE}" and entry.sha256 == "b" * 64 and entry.gates == "passed"
    (promoted,) = read_promoted(run)
    assert (promoted.precision, promoted.by, promoted.why) == ("int8", "Ada", "the NPU has int8 alone")
    assert promoted_artifact(run, "tflite") == run / "50-export-tflite-int8"


def test_the_same_promotion_again_adds_nothing(run: Path) -> None:
    force(run)
    force(run, who="Bob")
    assert [e.by for e in read_overrides(run)] == ["Ada"]
    promote(run, "tflite", "int8", size=None, force=False, who=None, why=None)


def test_going_back_to_the_verdict_is_recorded_too_and_needs_no_force(run: Path) -> None:
    force(run)
    force(run, "fp16", force=False, who="Bob", why="it flickers")
    assert [(e.by, e.precision) for e in read_overrides(run)] == [("Ada", "int8"), ("Bob", "fp16")]
    assert read_promoted(run)[0].by is None


def test_an_override_does_not_hold_for_an_artifact_built_anew(run: Path) -> None:
    force(run)
    judge(run, int8="c" * 64)
    (promoted,) = refresh(run)
    assert (promoted.precision, promoted.by) == ("fp16", None)
    assert len(read_overrides(run)) == 1, "what was decided stays on record"


def test_lines_changed_or_removed_afterwards_are_noticed(run: Path) -> None:
    force(run)
    force(run, "fp16")
    path = run / OVERRIDES
    first, second = path.read_text(encoding="utf-8").splitlines()
    for damaged in (second, f"{first.replace('Ada', 'Eve')}\n{second}"):
        path.write_text(damaged + "\n", encoding="utf-8")
        with pytest.raises(DataError, match=r"changed or removed"):
            refresh(run)
    path.write_text(first[:40], encoding="utf-8")
    with pytest.raises(DataError, match="not an override"):
        force(run)


def test_a_full_disk_leaves_both_files_as_they_were(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    force(run)
    before = {name: (run / name).read_bytes() for name in (OVERRIDES, PROMOTED)}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        force(run, "fp16")
    assert {name: (run / name).read_bytes() for name in before} == before
    assert not list(run.glob(".*.part*"))


def test_two_at_a_time_in_a_run_are_refused(run: Path) -> None:
    with locked(run), pytest.raises(UsageError, match="another datk"):
        force(run)


def test_unknown_names_are_told_with_the_known_ones(run: Path) -> None:
    judge(run, "onnx", size=(28, 28))
    judge(run, "onnx", size=(42, 28))
    for words, said in (
        (("lut4", "tflite"), "fp16, int8"),
        (("int8", "jetson"), "onnx, tflite"),
        (("int8", "onnx"), "--input-size"),
    ):
        with pytest.raises(UsageError) as told:
            promote(run, words[1], words[0], size=None, force=True, who="a", why="b")
        assert said in str(told.value.hint), told.value
    promote(run, "onnx", "int8", size=(42, 28), force=True, who="a", why="b")
    assert [(p.target, p.input_size, p.precision) for p in read_promoted(run)] == [
        ("onnx", (28, 28), "fp16"), ("onnx", (42, 28), "int8"), ("tflite", (28, 42), "fp16"),
    ]  # fmt: skip


def test_a_run_that_ships_nothing_promotes_nothing(tmp_path: Path) -> None:
    judge(tmp_path, ship=None)
    assert refresh(tmp_path)[0].artifact is None
    with pytest.raises(UsageError, match="promotes nothing"):
        promoted_artifact(tmp_path, "tflite")
    assert force(tmp_path).by == "Ada"
    assert read_overrides(tmp_path)[0].gates == "rejected"


def test_the_file_is_json_with_a_version(run: Path) -> None:
    assert json.loads((run / PROMOTED).read_text(encoding="utf-8"))["schema_version"] == 1
    (run / PROMOTED).write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match=r"not readable"):
        read_promoted(run)


def test_what_nobody_could_run_is_promoted_by_name_only_and_the_record_says_so(run: Path) -> None:
    judge(run, "rtx", ship=None)
    folder = run / "65-verdict-rtx-28x42"
    value = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    value["rows"] = [row | {"status": "unverified"} for row in value["rows"]]
    write_json(folder / "verdict.json", value)
    assert next(p for p in refresh(run) if p.target == "rtx").precision is None
    with pytest.raises(GateFailed, match="not promoted"):
        promote(run, "rtx", "fp16", size=None, force=False, who="Ada", why="run on the workstation")
    promoted = promote(run, "rtx", "fp16", size=None, force=True, who="Ada", why="run on the workstation")
    assert promoted.by == "Ada" and read_overrides(run)[-1].gates == "unverified"
