"""What every target makes of ViT-S at two sizes and of `mobile`: a folder that holds, where no changed byte passes.

Hours of CPU time in all, so `make test-slow` alone runs it; `-k "252x252 and tflite"` takes a part. Weights are random:
this is about folders, not about depth.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from datk.artifact.manifest import read_manifest
from datk.artifact.verify import SUMS, files_below
from datk.targets import available
from datk.targets.base import Target
from tests.e2e.test_route import datk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

PLAIN = ("fp32", "fp16", "int8")
ALL_OF_THEM = ("small-252x252", "mobile-252x252")
"""Nets and sizes that are built in every precision of a target."""
PLAIN_AND_ONE = "small-518x518"
"""1,370 tokens: fp32, fp16, int8 and one compressed variant a target."""

REFUSED = {("mobile-252x252", "int4-weights")}
"""int4 is for linears, of which a net of convolutions has none: such an export is rejected, and so it should be."""


@dataclass(frozen=True)
class Case:
    """One artifact to be made."""

    target: str
    precision: str
    net: str

    @property
    def preset(self) -> str:
        return self.net.split("-")[0]

    @property
    def size(self) -> str:
        return self.net.split("-")[1]


def cases() -> Iterator[Case]:
    for net in (*ALL_OF_THEM, PLAIN_AND_ONE):
        for name, target in sorted(available().items()):
            plain = [p for p in PLAIN if p in target.precisions]
            more = [p for p in target.precisions if p not in PLAIN and (net, p) not in REFUSED]
            for precision in (*plain, *(more if net in ALL_OF_THEM else more[:1])):
                yield Case(name, precision, net)


@dataclass(frozen=True)
class Export:
    """A finished export folder."""

    case: Case
    target: Target
    folder: Path


def checkpoint(preset: str, path: Path) -> Path:
    """Random weights whose map varies; of `mobile` with the running statistics of noisy pictures."""
    import torch

    from datk.models.depth_anything import DepthAnything
    from datk.models.weights import save_checkpoint

    torch.manual_seed(0)
    net = DepthAnything(preset)
    if preset == "mobile":
        with torch.no_grad():
            for _ in range(20):
                net.train().forward_train(torch.randn(4, 3, 56, 56) + torch.randn(4, 3, 1, 1))
            net.depth_head.scratch.output_conv2[2].bias.fill_(3.0)
    save_checkpoint(net.eval(), path, metadata={"licence": "Apache-2.0"})
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Holds a checkpoint a preset and a run folder a net: the student and a target's int8 program are made once."""
    folder = tmp_path_factory.mktemp("every-artifact")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module", params=[pytest.param(c, id=f"{c.target}-{c.precision}-{c.net}") for c in cases()])
def export(request: pytest.FixtureRequest, runs: Path) -> Iterator[Export]:
    """The folder of one artifact; gone again after its tests, for all of them together are many gigabytes."""
    case: Case = request.param
    target = available()[case.target]
    if missing := target.missing():
        pytest.skip(f"target {case.target}: SDK not installed here: {', '.join(missing)}")
    weights = runs / f"{case.preset}.safetensors"
    if not weights.exists():
        checkpoint(case.preset, weights)
    folder = build(case, weights, runs / case.net)
    yield Export(case, target, folder)
    shutil.rmtree(folder)


def build(case: Case, weights: Path, run_dir: Path) -> Path:
    """The route as far as the export, with as few photographs as it takes; nothing is measured."""
    from datk.config.load import recipe_from_dict
    from datk.pipeline.execute import Selection, execute
    from datk.pipeline.route import stages_of
    from tests.unit.ship.conftest import Silent

    height, width = (int(side) for side in case.size.split("x"))
    section = {"name": case.target, "precisions": [case.precision], "input_size": [height, width]}
    value = {
        "name": "every-artifact",
        "checkpoints": {"student": str(weights)},
        "quantize": {"count": 8},
        "photos": {"validation_count": 1},
        "targets": [section],
    }
    route = stages_of(recipe_from_dict(value, where="test"))
    stages = [s for s in route if s.verb in ("student", "calibration", "quantize", "export")]
    done = execute(stages, run_dir, Selection(), seed=0, recipe_text="test", reporter=Silent())
    assert not done.failures, done.failures
    return run_dir / f"50-export-{case.target}-{case.precision}"


def test_contract_golden_lint_and_verify_pass(export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = read_manifest(export.folder)
    assert manifest.verdict is None, manifest.verdict
    checks = manifest.checks
    assert not [f"{name}: {c['detail']}" for name, c in checks.items() if c["status"] == "failed"]
    assert checks["op-lint"]["status"] == ("passed" if export.target.op_lint else "not_measured")
    code = datk("verify", str(export.folder))
    said = capsys.readouterr().out
    lines = [line.split(maxsplit=1) for line in said.splitlines()]
    passed = [rest for status, rest in lines if status == "passed"]
    assert not [line for line in lines if line[0] == "failed"], said
    assert {"files:", "contract:", "manifest:"} <= {rest.split()[0] for rest in passed}, said
    golden = [rest for rest in passed if rest.startswith("golden ")]
    if why := export.target.cannot_run():
        assert code == 4 and not golden and why in said, said
    else:
        assert code == 0 and len(golden) == 6, said  # three photographs, each against itself and the float net


def test_a_flipped_byte_in_any_file_fails_verify_by_name(export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    names = files_below(export.folder)
    assert {"contract.json", "golden/golden.json", "manifest.json", "NOTICE", "verify.py", SUMS} <= set(names)
    for name in names:
        path = export.folder / name
        size = path.stat().st_size
        if size == 0:
            continue
        place, bit = int(random.integers(size)), 1 << int(random.integers(8))
        flip(path, place, bit)
        code = datk("verify", str(export.folder))
        said = capsys.readouterr().out
        flip(path, place, bit)
        named = [w for w in map(str.split, said.replace(":", " ").splitlines()) if w[0] == "failed" and name in w]
        assert code == 3 and named, f"{name}, byte {place} xor {bit}: exit code {code}\n{said}"
    assert datk("verify", str(export.folder), "--files-only") == 0, capsys.readouterr().out


def flip(path: Path, place: int, bit: int) -> None:
    """Invert one bit of a file; twice is not at all."""
    with path.open("r+b") as handle:
        handle.seek(place)
        byte = handle.read(1)[0]
        handle.seek(place)
        handle.write(bytes([byte ^ bit]))
