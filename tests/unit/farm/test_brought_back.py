"""An engine that a device built is what the farm sends there; artifacts of several sizes keep rows of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from datk.artifact.files import sha256_file
from datk.artifact.manifest import InputRef, Manifest, output_ref, read_manifest, write_manifest
from datk.errors import DataError, UsageError
from datk.farm.inventory import Device
from datk.pipeline.farm.brought_back import engine_of, sent_file
from datk.pipeline.farm.request import FarmRequest, Item, artifacts_asked_for, unsupported
from datk.pipeline.farm.scoring import unscored
from datk.pipeline.runs import Artifact
from datk.targets import available

ORIN = Device.model_validate({"name": "orin", "kind": "local"})
OTHER = Device.model_validate({"name": "other", "kind": "local"})


def stage(folder: Path, file: str, content: bytes, *, inputs: tuple[InputRef, ...] = ()) -> Path:
    folder.mkdir()
    (folder / file).write_bytes(content)
    manifest = Manifest(
        stage=folder.name,
        key="0" * 64,
        created_at="2026-01-01T00:00:00+00:00",
        inputs=list(inputs),
        outputs=[output_ref(folder / file, relative_to=folder)],
        section={},
        tools={},
        git=None,
        host={},
        facts={"artifact": file, "target": "jetson", "precision": "fp16"},
        duration_s=0.0,
    )
    write_manifest(manifest, folder)
    return folder


def exported(run_dir: Path, name: str) -> Artifact:
    folder = stage(run_dir / f"50-export-{name}", "model.onnx", b"onnx")
    return Artifact(folder, read_manifest(folder))


@pytest.mark.parametrize("target", sorted(available()))
def test_what_the_farm_runs_of_every_target_or_that_it_has_no_runtime_for_such_files(
    tmp_path: Path, target: str
) -> None:
    file = f"model{available()[target].suffix}"
    facts = {"artifact": file, "target": target, "precision": "fp32"}
    folder = stage(tmp_path / "50-export", file, b"whatever")
    artifact = Artifact(folder, read_manifest(folder).model_copy(update={"facts": facts}))
    why = unsupported(artifact, ORIN, {"litert", "onnxruntime", "coreml", "tensorrt"})
    if target in {"executorch", "openvino", "rtx"}:
        assert f"has no runtime for {available()[target].suffix} (it has those of .tflite, .onnx" in why
    else:
        assert not why and "has no " in unsupported(artifact, ORIN, set())
    facts["entries"] = {"depth_14x14": "50-export-a-14x14", "depth_28x14": "50-export-a-28x14"}
    assert "one by one, from 50-export-a-14x14, 50-export-a-28x14" in unsupported(artifact, ORIN, None)


def built(artifact: Artifact, device: Device) -> Path:
    digest = sha256_file(artifact.folder / "manifest.json")
    made_from = InputRef(role="export", path=artifact.folder.name, sha256=digest)
    folder = artifact.folder.parent / f"65-engine-{artifact.id}-{device.name}"
    return stage(folder, "depth.engine", b"engine", inputs=(made_from,)) / "depth.engine"


def test_the_device_that_built_an_engine_is_sent_it_and_no_other_is(tmp_path: Path) -> None:
    artifact = exported(tmp_path, "jetson-fp16")
    assert engine_of(artifact, ORIN) is None and sent_file(artifact, ORIN) == artifact.path
    engine = built(artifact, ORIN)
    assert sent_file(artifact, ORIN) == engine
    assert sent_file(artifact, OTHER) == artifact.path


def test_an_engine_of_an_earlier_export_is_not_sent(tmp_path: Path) -> None:
    artifact = exported(tmp_path, "jetson-fp16")
    built(artifact, ORIN)
    again = artifact.manifest.model_copy(update={"created_at": "2026-01-02T00:00:00+00:00"})
    write_manifest(again, artifact.folder)
    assert sent_file(Artifact(artifact.folder, again), ORIN) == artifact.path


def test_an_engine_that_is_not_what_was_built_is_refused_with_the_next_command(tmp_path: Path) -> None:
    artifact = exported(tmp_path, "jetson-fp16")
    built(artifact, ORIN).write_bytes(b"another")
    with pytest.raises(DataError, match="not the file its manifest tells of") as caught:
        sent_file(artifact, ORIN)
    assert "--device orin --force" in (caught.value.hint or "")


def test_a_precision_can_be_named_and_one_that_is_not_there_is_told(tmp_path: Path) -> None:
    for name, precision in (("jetson-fp16", "fp16"), ("onnx-int8", "int8")):
        folder = exported(tmp_path, name).folder
        manifest = read_manifest(folder)
        write_manifest(manifest.model_copy(update={"facts": {**manifest.facts, "precision": precision}}), folder)
    asked = FarmRequest(devices=(ORIN,), artifacts=(tmp_path,), precisions=("int8",))
    assert [a.id for a in artifacts_asked_for(asked)[0]] == ["onnx-int8"]
    with pytest.raises(UsageError, match="no artifact in lut4") as caught:
        artifacts_asked_for(replace(asked, precisions=("lut4",)))
    assert "fp16, int8" in (caught.value.hint or "")


def test_two_sizes_of_one_precision_are_two_rows(tmp_path: Path) -> None:
    sizes = [exported(tmp_path, name) for name in ("jetson-fp16-56x98", "jetson-fp16-70x70")]
    rows = [unscored(Item(a, ORIN), "unsupported", "no such runtime") for a in sizes]
    assert [r.artifact for r in rows] == ["jetson-fp16-56x98", "jetson-fp16-70x70"]
