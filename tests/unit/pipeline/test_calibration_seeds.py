"""`datk quantize seeds`: different draws, judged on photographs none of them saw, resumable to the same figures."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from datk.errors import DataError, UsageError
from datk.models.depth_anything import DepthAnything
from datk.models.weights import save_checkpoint
from datk.pipeline.calibration_seeds import SeedsRequest, measure_seeds

SIZE = (28, 28)
JUDGED = 6


class Bar:
    """A reporter that can interrupt, and keeps what is told."""

    def __init__(self, stop_at: tuple[str, int] = ("", 0)) -> None:
        self.lines: list[str] = []
        self.seen: set[str] = set()
        self._stop_at = stop_at

    def stage(self, name: str, title: str, state: str) -> None: ...

    def progress(self, done: int, total: int, what: str = "", stage: str = "") -> None:
        self.seen.add(what)
        if (what, done) == self._stop_at:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.lines.append(text)


def paint(folder: Path, numbers: range) -> Path:
    folder.mkdir()
    for number in numbers:
        noise = np.random.default_rng(number).normal(120, 60, (40, 40, 3)).astype(np.float32)
        picture = cv2.GaussianBlur(noise, (0, 0), 3) * 1.5
        cv2.imwrite(str(folder / f"{number:03d}.png"), np.clip(picture, 0, 255).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> SeedsRequest:
    folder = tmp_path_factory.mktemp("seeds")
    torch.manual_seed(0)
    net = DepthAnything("tiny").eval()
    with torch.no_grad():
        net.depth_head.scratch.output_conv2[2].bias.fill_(5.0)
    save_checkpoint(net, folder / "net.safetensors", metadata={"licence": "Apache-2.0"})
    return SeedsRequest(
        target="onnx",
        checkpoint=folder / "net.safetensors",
        input_size=SIZE,
        calibration=paint(folder / "pool", range(20)),
        images=paint(folder / "judged", range(100, 100 + JUDGED)),
        photos=JUDGED,
        count=8,
    )


class Moved(torch.nn.Module):
    """In the place of a quantised program: a ramp, bent by what was drawn and by the photograph."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(0, 1, 28).repeat(28, 1)
        return (ramp + self.shift * torch.sin(ramp * image.float().mean()))[None]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The verb without nets: no NNCF, no torch.export, and a float net that is a ramp. Returns the draws it saw."""
    draws: list[list[str]] = []

    def quantise(module: torch.nn.Module, images: list, scheme: object, **how: Any) -> torch.nn.Module:
        draws.append(how["names"])
        how["progress"](1, 1)
        return Moved(float(np.mean([i.mean() for i in images])) / 1000)

    def save(program: Moved, example: torch.Tensor, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(repr(program.shift))

    monkeypatch.setattr("datk.quantize.ptq.quantize_module", quantise)
    monkeypatch.setattr("datk.quantize.program.save_program", save)
    monkeypatch.setattr("datk.quantize.program.load_program", lambda path: Moved(float(path.read_text())))
    monkeypatch.setattr("datk.models.deployment.deployment_module", lambda net, size, form: Moved(0.0))
    return draws


def figures(path: Path) -> list:
    return [[s["seed"], s["drawn"], s["r"]] for s in json.loads(path.read_text())["seeds"]]


@pytest.mark.slow
def test_nncf_is_calibrated_on_each_draw_and_judged_on_photographs_it_did_not_see(
    request_: SeedsRequest, tmp_path: Path
) -> None:
    """One real seed; the others are told apart below without NNCF."""
    found, path = measure_seeds(replace(request_, seeds=1, out=tmp_path / "s.json"), reporter=Bar())
    row = found.seeds[0]
    assert len(row.drawn) == 8 and len(row.r) == JUDGED and 0.9 < row.worst <= row.median < 1
    assert not set(row.drawn) & {p["name"] for p in found.facts["held_out"]}
    assert row.quantise_s > 0 and path.is_file() and [p.name for p in tmp_path.iterdir()] == ["s.json"]


def test_every_seed_draws_other_photographs(request_: SeedsRequest, tmp_path: Path, quick: list) -> None:
    found, _ = measure_seeds(replace(request_, out=tmp_path / "s.json"), reporter=Bar())
    assert [row.seed for row in found.seeds] == [0, 1, 2] and quick == [row.drawn for row in found.seeds]
    assert len({tuple(row.drawn) for row in found.seeds}) == 3
    assert len({tuple(row.r) for row in found.seeds}) == 3


@pytest.mark.parametrize("moment", [("seed 1: quantise", 1), ("seed 1: judge", 3), ("seed 2: judge", 6)])
def test_interrupted_seeds_go_on_and_equal_an_uninterrupted_run(
    request_: SeedsRequest, tmp_path: Path, quick: list, moment: tuple[str, int]
) -> None:
    whole, broken = tmp_path / "whole.json", tmp_path / "broken.json"
    measure_seeds(replace(request_, out=whole), reporter=Bar())
    with pytest.raises(KeyboardInterrupt):
        measure_seeds(replace(request_, out=broken), reporter=Bar(stop_at=moment))
    bar = Bar()
    measure_seeds(replace(request_, out=broken), reporter=bar)
    assert any("going on with" in line for line in bar.lines) and "seed 0: quantise" not in bar.seen
    assert ("seed 1: quantise" in bar.seen) == ("quantise" in moment[0]), "a quantised program is kept until judged"
    assert figures(broken) == figures(whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.json", "whole.json"]


def test_more_seeds_add_to_the_file_and_another_net_does_not_overwrite_it(
    request_: SeedsRequest, tmp_path: Path, quick: list
) -> None:
    out = tmp_path / "s.json"
    measure_seeds(replace(request_, out=out), reporter=Bar())
    before = figures(out)
    found, _ = measure_seeds(replace(request_, out=out, seeds=4), reporter=Bar())
    assert figures(out)[:3] == before and len(found.seeds) == 4 and len(quick) == 4
    with pytest.raises(UsageError, match="holds seeds of other weights, photographs"):
        measure_seeds(replace(request_, out=out, count=9), reporter=Bar())


@pytest.mark.parametrize(
    ("count", "message"),
    [(20, "every seed would draw the same"), (25, "every seed would draw the same"), (7, "at least 8 are needed")],
)
def test_draws_that_could_not_differ_or_are_too_small_are_refused(
    request_: SeedsRequest, tmp_path: Path, count: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        measure_seeds(replace(request_, out=tmp_path / "s.json", count=count), reporter=Bar())
    assert list(tmp_path.iterdir()) == []


def test_photographs_to_judge_on_that_calibrate_are_refused(request_: SeedsRequest, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="also used to calibrate"):
        measure_seeds(replace(request_, images=request_.calibration, out=tmp_path / "s.json"), reporter=Bar())


def test_a_built_set_is_drawn_from_by_its_kinds(request_: SeedsRequest, tmp_path: Path, quick: list) -> None:
    """Two rare photographs of twenty: in every draw."""
    from datk.data.calibration_set import CalibrationEntry, CalibrationSet, set_digest

    assert request_.calibration is not None
    folder = tmp_path / "set"
    (folder / "photos").mkdir(parents=True)
    entries = []
    for number, path in enumerate(sorted(request_.calibration.iterdir())):
        (folder / "photos" / path.name).write_bytes(path.read_bytes())
        entries.append(entry(CalibrationEntry, path, kind=int(number >= 18)))
    built = CalibrationSet(
        sha256=set_digest(entries, SIZE), key="k", input_size=SIZE, seed=0, asked=20, source="s", licence="l",
        teacher={}, keep_out={"max_distance": 0}, tools={}, kinds=[], photos=entries, left_out=[],
    )  # fmt: skip
    (folder / "index.json").write_text(built.model_dump_json())
    found, _ = measure_seeds(replace(request_, calibration=folder, out=tmp_path / "s.json"), reporter=Bar())
    assert all({"018.png", "019.png"} < set(row.drawn) for row in found.seeds)
    assert found.facts["pool"]["sha256"] == built.sha256 and found.facts["pool"]["kinds"] == 2


def entry(make: Callable, path: Path, *, kind: int):
    from datk.artifact.files import sha256_file
    from datk.data.phash import perceptual_hash
    from datk.depth.preprocess import read_image

    file, digest = f"photos/{path.name}", sha256_file(path)
    phash = f"{perceptual_hash(read_image(path)):016x}"
    return make(name=path.name, file=file, sha256=digest, phash=phash, kind=kind, label=file, label_sha256=digest)


def test_the_report_of_a_run_says_what_came_out(
    request_: SeedsRequest, tmp_path: Path, quick: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the command line, on a run whose report says "not measured" before."""
    from datk.artifact.manifest import Manifest, output_ref, write_manifest
    from datk.cli.main import main
    from datk.report.build import build_report

    run, student = tmp_path / "run", tmp_path / "run" / "30-student"
    student.mkdir(parents=True)
    assert request_.checkpoint is not None
    (student / "student.safetensors").write_bytes(request_.checkpoint.read_bytes())
    outputs = [output_ref(student / "student.safetensors", relative_to=student)]
    write_manifest(manifest_of(Manifest, "30-student", outputs=outputs), student)
    (run / "40-quantize-onnx").mkdir()
    facts = {"target": "onnx", "input_size": list(SIZE)}
    write_manifest(manifest_of(Manifest, "40-quantize-onnx", facts=facts), run / "40-quantize-onnx")
    build_report(run)
    assert "not measured" in told(run)["said"] and told(run)["summary"] is None
    words = ["--target", "onnx", "--input-size", "28", "--count", "8", "--photos", str(JUDGED)]
    words += ["--checkpoint", student / "student.safetensors", "--calibration", request_.calibration]
    line = ["datk", "quantize", "seeds", *map(str, words), "--images", str(request_.images)]
    monkeypatch.setattr("sys.argv", line)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code and told(run)["said"].startswith("Calibration draws:")
    assert told(run)["summary"]["seeds"] == 3 and told(run)["input_size"] == [28, 28]


def manifest_of(make: Callable, stage: str, **more: Any):
    at = "2026-11-22T12:00:00+00:00"
    return make(stage=stage, key="k" * 64, created_at=at, duration_s=1.0, tools={}, git=None, host={}, seed=0, **more)


def told(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text(encoding="utf-8"))["seeds"][0]


def test_flat_nan_and_damaged_photographs_are_never_drawn(request_: SeedsRequest, tmp_path: Path, quick: list) -> None:
    folder = paint(tmp_path / "pool", range(12))
    cv2.imwrite(str(folder / "flat.png"), np.full((40, 40, 3), 9, np.uint8))
    cv2.imwrite(str(folder / "nan.tiff"), np.full((40, 40, 3), np.nan, np.float32))
    (folder / "torn.png").write_bytes((folder / "000.png").read_bytes()[:90])
    bar = Bar()
    found, _ = measure_seeds(replace(request_, calibration=folder, out=tmp_path / "s.json"), reporter=bar)
    assert found.facts["pool"]["photographs"] == 12 and "calibration: flat.png left out, one flat colour" in bar.lines
    assert all(any(f"calibration: {name} left out" in line for line in bar.lines) for name in ("nan.tiff", "torn.png"))


def test_a_full_disk_keeps_the_seeds_so_far_and_the_same_line_goes_on(
    request_: SeedsRequest, tmp_path: Path, quick: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole.json", tmp_path / "broken.json"
    measure_seeds(replace(request_, out=whole), reporter=Bar())
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):

        def save(program: Moved, example: torch.Tensor, path: Path) -> None:
            if path.name.endswith("seed-1.pt2"):
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            path.parent.mkdir(exist_ok=True)
            path.write_text(repr(program.shift))

        patch.setattr("datk.quantize.program.save_program", save)
        measure_seeds(replace(request_, out=broken), reporter=Bar())
    assert figures(broken) == figures(whole)[:1]
    measure_seeds(replace(request_, out=broken), reporter=Bar())
    assert figures(broken) == figures(whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.json", "whole.json"]
