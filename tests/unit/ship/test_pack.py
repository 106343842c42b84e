"""All sizes of an export in one artifact: what goes in, what is left out, and that a wrong entry point is found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import datk
from datk.artifact import verify
from datk.artifact.files import write_json
from datk.artifact.manifest import Manifest, Metric, OutputRef, Verdict, Weights, read_manifest, write_manifest
from datk.config.load import recipe_from_dict
from datk.depth.io_spec import Contract, DepthKind, Size, contract_for, entry_of
from datk.errors import UsageError
from datk.pipeline.models import open_model
from datk.pipeline.route import stages_of
from datk.pipeline.runs import packs_of
from datk.pipeline.several_buckets import BucketRunner
from datk.pipeline.ship.golden import golden_images, write_ppm
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps import pack
from datk.pipeline.verifying import verify_export
from datk.targets import get
from datk.targets.tflite import pack as tflite_pack
from datk.targets.tflite.flatbuffer import finish, read_metadata
from tests.unit.ship.conftest import Silent
from tests.unit.targets.tflite.test_pack import toy

SIZES: tuple[Size, ...] = ((56, 98), (70, 70), (98, 56))


class Run:
    """A run folder with one toy .tflite a size, judged as told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.needs: dict[str, tuple[Path, Manifest]] = {}
        self.parts: list[pack.Part] = []
        self._stage("30-student", facts={"format": "datk"})

    def _stage(self, name: str, **more: object) -> Manifest:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        weights = [Weights(name="toy", sha256="a" * 64, licence="Apache-2.0")]
        value = {"stage": name, "key": "k", "created_at": "2026-11-23T00:00:00+00:00", "duration_s": 1.0} | more
        manifest = Manifest.model_validate({"weights": weights} | value)
        write_manifest(manifest, folder)
        self.needs[name] = (folder, manifest)
        return manifest

    def add(self, size: Size, verdict: Verdict | None = None, learnt: str | None = None) -> Path:
        """An export of the size with its golden photographs; verdict: of its measurement, passed when not told.

        learnt: sha256 of weights that learnt under int8 at this size (stage 38) and took the student's place.
        """
        name = f"tflite-fp32-{size[0]}x{size[1]}"
        folder = self.root / f"50-export-{name}"
        folder.mkdir()
        contract = contract_for(input_size=size, depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision="fp32")
        text = {"datk.contract": contract.model_dump_json()}
        artifact = folder / "model.tflite"
        artifact.write_bytes(finish(toy(size), input_name="image", output_name="depth", metadata=text))
        runner = get("tflite").open(artifact, contract)
        images = []
        for image in golden_images(contract):
            files = {w: f"golden/{image.name}.{e}" for w, e in (("photo", "ppm"), ("input", "input.ppm"))}
            files |= {w: f"golden/{image.name}.{w}.f32" for w in ("float", "artifact")}
            (folder / "golden").mkdir(exist_ok=True)
            write_ppm(folder / files["photo"], image.photo)
            write_ppm(folder / files["input"], image.bucket)
            for what in ("float", "artifact"):
                runner.predict(image.bucket).astype("<f4").tofile(folder / files[what])
            images.append({"name": image.name, **files})
        loose = {"min_correlation": 0.9}
        golden = {"precision": "fp32", "input_size": list(size), "images": images, "no_artifact_results": None}
        golden["tolerance"] = {"float": loose, "artifact": loose, "app": {"max_input_difference": 3.0, **loose}}
        write_json(folder / "golden" / "golden.json", golden)
        source = "30-student"
        weights = [Weights(name="toy", sha256="a" * 64, licence="Apache-2.0")]
        if learnt is not None:
            source = f"38-qat-tflite-{size[0]}x{size[1]}"
            weights = [Weights(name="toy, learnt under tflite int8", sha256=learnt, licence="Apache-2.0")]
            student = [{"role": "30-student", "path": "30-student", "sha256": "b"}]
            self._stage(source, weights=weights, facts={"format": "datk"}, inputs=student)
        self._stage(
            folder.name,
            weights=weights,
            contract=contract,
            facts={"artifact": "model.tflite", "target": "tflite", "precision": "fp32"},
            inputs=[{"role": source, "path": source, "sha256": "b"}],
            metrics={"size_bytes": Metric(value=1.0)},
            outputs=[OutputRef(path="model.tflite", sha256="c" * 64, bytes=1)],
        )
        self._stage(f"60-validate-{name}", verdict=verdict or Verdict(status="passed"))
        self.parts.append(pack.Part(size, folder.name, f"60-validate-{name}"))
        return artifact

    def pack(self) -> tuple[Outcome, Path]:
        out = self.root / "67-pack-tflite-fp32"
        out.mkdir()
        stage = StageRun(out=out, needs=self.needs, reporter=Silent(), seed=0)
        return pack.run(get("tflite"), "fp32", self.parts, stage), out


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


def test_a_size_that_failed_takes_no_other_along_and_is_named(run: Run) -> None:
    run.add(SIZES[0])
    run.add(SIZES[1], Verdict(status="rejected", reasons=["worst correlation 0.91", "n"]))
    run.add(SIZES[2])
    outcome, out = run.pack()
    assert outcome.verdict is not None and outcome.verdict.status == "passed", outcome.checks
    assert outcome.facts["left_out"] == {"70x70": "rejected: worst correlation 0.91"}
    assert list(outcome.facts["entries"]) == ["depth_56x98", "depth_98x56"]
    contract = Contract.model_validate_json((out / "contract.json").read_text(encoding="utf-8"))
    assert contract.packed_sizes == (SIZES[0], SIZES[2]) and contract == outcome.contract
    assert "6 pictures" in outcome.checks["entry-points"]["detail"]


def test_a_pack_names_the_weights_it_holds_of_each_size_those_that_learnt_under_int8(run: Run) -> None:
    run.add(SIZES[0], learnt="1" * 64)
    run.add(SIZES[1], learnt="2" * 64)
    outcome, out = run.pack()
    assert [w.sha256 for w in outcome.weights] == ["1" * 64, "2" * 64]
    assert {w.name for w in outcome.weights} == {"toy, learnt under tflite int8"}
    links = {link["sha256"] for link in outcome.facts["licences"] if link["role"] == "weights"}
    assert links == {"1" * 64, "2" * 64, "a" * 64}, "the student they learnt from belongs to the chain"
    metadata = read_metadata(out / "model.tflite")
    assert metadata["weights_sha256"] == f"{'1' * 64}, {'2' * 64}" and metadata["weights_licence"] == "Apache-2.0"


def test_the_stand_alone_checker_runs_every_size_and_finds_a_damaged_golden_map(run: Run) -> None:
    for size in SIZES[:2]:
        run.add(size)
    _, out = run.pack()
    contract = json.loads((out / "contract.json").read_text(encoding="utf-8"))
    checks = verify.check_golden(out, contract, verify.open_with_runtime)
    assert len(checks) == 2 * 2 * 3 and {c.status for c in checks} == {"passed"}, checks
    path = out / "golden/70x70/kodak_0001.float.f32"
    np.fromfile(path, "<f4")[::-1].tofile(path)
    bad = [c for c in verify.check_golden(out, contract, verify.open_with_runtime) if c.status == "failed"]
    assert [c.name for c in bad] == ["golden 70x70/kodak_0001"]


def test_predict_takes_every_size_of_the_one_file_and_no_other(run: Run) -> None:
    for size in SIZES[:2]:
        run.add(size)
    outcome, out = run.pack()
    write_manifest(run.needs["30-student"][1].model_copy(update={"facts": outcome.facts}), out)
    runner = open_model(out, all_buckets=True)
    assert isinstance(runner, BucketRunner)
    picture = np.zeros((*SIZES[1], 3), np.uint8)
    named = open_model(out, SIZES[1])
    assert named.input_size == SIZES[1] and np.array_equal(runner.predict(picture), named.predict(picture))
    runner.close()
    named.close()
    with pytest.raises(UsageError, match="takes 56x98 and 70x70 only"):
        open_model(out, (14, 14), all_buckets=True)
    assert [a.folder for a in packs_of(run.root)] == [out]


def test_the_python_kit_of_a_pack_calls_the_signature_of_the_size_it_chose(run: Run) -> None:
    for size in SIZES:
        run.add(size)
    _, out = run.pack()
    done = subprocess.run([sys.executable, out / "kits/python/golden_test.py"], capture_output=True, text=True)
    assert done.returncode == 0 and "on 3 photographs" in done.stdout, done
    swapped = out / "kits/python/depth_app.py"
    text = swapped.read_text(encoding="utf-8")
    assert text.count("entry = self.entries[size]") == 1
    swapped.write_text(text.replace("= self.entries[size]", "= self.entries[(70, 70)]"), encoding="utf-8")
    done = subprocess.run([sys.executable, out / "kits/python/golden_test.py"], capture_output=True, text=True)
    assert done.returncode != 0, "another size's signature must not pass"


def test_fewer_than_two_sizes_leave_nothing_to_pack_and_it_is_said(run: Run) -> None:
    run.add(SIZES[0])
    run.add(SIZES[1], Verdict(status="unverified", reasons=["not measured: no GPU"]))
    outcome, out = run.pack()
    assert outcome.facts["not_packed"].startswith("1 of 2 sizes passed") and outcome.verdict is None
    assert outcome.facts["left_out"] == {"70x70": "unverified: not measured: no GPU"} and not list(out.iterdir())


def test_an_entry_point_that_answers_otherwise_rejects_the_pack(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in SIZES[:2]:
        run.add(size)

    def wrong(model, by=tflite_pack.merge):
        whole = by(model)
        graph = whole.subgraphs[1]
        position = next(t for t in graph.tensors if t.name == b"position")
        whole.buffers[position.buffer].data = whole.buffers[position.buffer].data[::-1].copy()
        return whole

    monkeypatch.setattr(tflite_pack, "merge", wrong)
    outcome, _ = run.pack()
    assert outcome.verdict is not None and outcome.verdict.status == "rejected" and outcome.failed_stage == "pack"
    assert entry_of(SIZES[1]) in outcome.verdict.reasons[0] and entry_of(SIZES[0]) not in outcome.verdict.reasons[0]


def test_the_route_packs_after_every_size_is_judged_where_the_format_has_entry_points(checkpoint: Path) -> None:
    targets = [{"name": n, "precisions": ["fp32"], "buckets": ["56x98", "70x70"]} for n in ("tflite", "onnx")]
    value = {"name": "b", "checkpoints": {"student": str(checkpoint)}, "targets": targets}
    stages = stages_of(recipe_from_dict(value, where="test"))
    (found,) = [s for s in stages if s.verb == "pack"]
    assert found.name == "67-pack-tflite-fp32"
    assert {f"{k}-tflite-fp32-{s}" for k in ("50-export", "60-validate") for s in ("56x98", "70x70")} < {*found.needs}
    assert stages.index(found) > max(i for i, s in enumerate(stages) if "tflite" in s.name and s is not found)
    value["targets"] = [{"name": "tflite", "precisions": ["fp32"], "input_size": "56x98"}]
    assert not [s for s in stages_of(recipe_from_dict(value, where="test")) if s.verb == "pack"]


@pytest.mark.slow
def test_a_whole_export_of_two_sizes_is_packed_verifies_and_passes_its_kits(tmp_path: Path, checkpoint: Path) -> None:
    """From the command line, with the real compilers of both formats that have entry points."""
    command = [sys.executable, "-m", "datk", "export", "--checkpoint", str(checkpoint), "--out", str(tmp_path / "r")]
    command += ["--target", "tflite", "--target", "coreml", "--precision", "fp16", "--input-size", "56x98,70x70"]
    path = os.environ | {"PYTHONPATH": str(Path(datk.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=path)
    assert done.returncode == 0, done.stderr
    for name, share in (("tflite", 0.6), ("coreml", 0.6)):
        folder = tmp_path / "r" / f"67-pack-{name}-fp16"
        assert not [c for c in verify_export(folder) if c.status == "failed"]
        metrics = read_manifest(folder).metrics
        assert metrics["size_bytes"].value < share * metrics["apart_bytes"].value
    kit = tmp_path / "r" / "67-pack-tflite-fp16" / "kits"
    for line in ([sys.executable, "golden_test.py"],):
        done = subprocess.run(line, cwd=kit / "python", capture_output=True, text=True)
        assert done.returncode == 0 and "passed" in done.stdout, done
    library = next(Path(sys.prefix).glob("lib/python*/site-packages/ai_edge_litert/libLiteRt.so"))
    cpp = Path(shutil.copytree(kit / "cpp", tmp_path / "cpp"))
    line = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "golden_test.cpp", "-o", "golden_test"]
    line += [str(library), f"-Wl,-rpath,{library.parent}"]
    done = subprocess.run(line, cwd=cpp, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([cpp / "golden_test", kit.parent], capture_output=True, text=True)
    assert done.returncode == 0 and "passed" in done.stdout, done
