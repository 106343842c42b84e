"""A rejected artifact is looked into by itself, and its verdict says which layer is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from datk.errors import GateFailed, TargetError, UsageError
from datk.evaluate.divergence.diagnose import Diagnosis, LayerError
from datk.evaluate.divergence.locate import Finding
from datk.pipeline import diagnosing
from datk.pipeline.diagnosing import explain_rejection
from datk.targets import get

FINDING = Finding(
    layer="pretrained.blocks.3.attn.proj",
    op="linear",
    node="linear_14",
    position=61,
    n_layers=180,
    own_error=0.4,
    usual_error=1e-6,
    tensor="linear_14",
    made_by="MatMul",
    proven=True,
)
DIAGNOSIS = Diagnosis(
    judged_by="onnxruntime-cpu",
    output_error=0.3,
    n_layers=180,
    n_found=170,
    known=(),
    findings=(FINDING,),
    largest=(LayerError(layer="x", op="linear", own_error=0.4),),
    not_finite=(),
)
PHOTOS = [Path("a.jpg"), Path("b.jpg"), Path("c.jpg")]
PARITY = {"images": [{"name": n, "correlation": r} for n, r in (("a.jpg", 0.99), ("b.jpg", 0.4), ("c.jpg", 0.9))]}


def gates(*failed: str) -> list[dict[str, str]]:
    names = ("photographs", "usable output", "median correlation", "bench drop")
    return [{"name": n, "status": "failed" if n in failed else "passed"} for n in names]


@pytest.fixture
def looked(monkeypatch) -> list[Path | None]:
    """The photographs that were looked at."""
    seen: list[Path | None] = []

    def diagnose(path, *, checkpoint=None, photo=None, tools=None):
        seen.append(photo)
        return DIAGNOSIS

    monkeypatch.setattr(diagnosing, "diagnose_artifact", diagnose)
    return seen


def test_a_failed_parity_gate_names_the_layer_on_the_worst_photograph(looked) -> None:
    details = {"gates": gates("median correlation"), "parity_vs_float": PARITY}
    said, record = explain_rejection(Path("m.onnx"), get("onnx"), Path("s.safetensors"), details, PHOTOS)
    assert looked == [Path("b.jpg")]
    assert said[0].startswith("first wrong layer: pretrained.blocks.3.attn.proj (linear), off by 40 %")
    assert record["photograph"] == "b.jpg" and record["findings"][0]["layer"] == FINDING.layer


def test_a_photograph_without_any_usable_map_counts_as_the_worst(looked) -> None:
    parity = {"images": [*PARITY["images"][:2], {"name": "c.jpg", "correlation": None}]}
    explain_rejection(
        Path("m.onnx"), get("onnx"), Path("s"), {"gates": gates("usable output"), "parity_vs_float": parity}, PHOTOS
    )
    assert looked == [Path("c.jpg")]


def test_other_gates_do_not_accuse_the_compiler(looked) -> None:
    details = {"gates": gates("bench drop"), "parity_vs_float": PARITY}
    assert explain_rejection(Path("m.onnx"), get("onnx"), Path("s"), details, PHOTOS) == ([], {})
    assert looked == []


def test_what_cannot_be_looked_into_is_told_and_leaves_the_verdict_standing(monkeypatch) -> None:
    def refuse(*_, **__):
        raise TargetError("the evaluator knows no operation 'magic'")

    monkeypatch.setattr(diagnosing, "diagnose_artifact", refuse)
    details = {"gates": gates("median correlation"), "parity_vs_float": PARITY}
    said, record = explain_rejection(Path("m.onnx"), get("onnx"), Path("s"), details, PHOTOS)
    assert said == ["not looked into: the evaluator knows no operation 'magic'"] and record["not_measured"] in said


def test_an_artifact_without_a_run_asks_for_its_source(tmp_path) -> None:
    with pytest.raises(UsageError, match="its source is not known") as caught:
        diagnosing._source(tmp_path / "model.onnx")
    assert "--checkpoint" in (caught.value.hint or "")


def test_doctor_artifact_ends_with_a_failed_gate_that_names_the_layer(looked, capsys) -> None:
    from datk.cli.doctor import artifact

    with pytest.raises(GateFailed, match=r"first wrong layer: pretrained\.blocks\.3\.attn\.proj") as caught:
        artifact(Path("m.onnx"), runtime=["tensorrt=10.3.0"])
    assert caught.value.exit_code == 3
    assert "pretrained.blocks.3.attn.proj" in capsys.readouterr().out
    with pytest.raises(UsageError, match="expected NAME=VERSION"):
        artifact(Path("m.onnx"), runtime=["tensorrt"])


def test_int8_is_looked_into_beside_the_very_program_it_was_compiled_from(tmp_path: Path, monkeypatch) -> None:
    """Not beside one that was quantised anew since, nor outside its run."""
    from types import SimpleNamespace

    export, made = tmp_path / "run" / "50-export-onnx-int8", tmp_path / "run" / "40-quantize-onnx"
    for folder in (export, made):
        folder.mkdir(parents=True)
        (folder / "manifest.json").touch()
    (made / "program.pt2").touch()
    reads = SimpleNamespace(inputs=[SimpleNamespace(role="40-quantize-onnx", sha256="one")])
    manifests = {export: reads, made: SimpleNamespace(digest="one")}
    monkeypatch.setattr(diagnosing, "run_of", lambda artifact: tmp_path / "run")
    monkeypatch.setattr(diagnosing, "read_manifest", lambda folder: manifests[folder])
    monkeypatch.setattr("datk.quantize.program.load_program", lambda path: path)
    assert diagnosing._quantised(export / "model.onnx") == made / "program.pt2"
    manifests[made] = SimpleNamespace(digest="another")
    assert diagnosing._quantised(export / "model.onnx") is None
    monkeypatch.setattr(diagnosing, "run_of", lambda artifact: None)
    assert diagnosing._quantised(export / "model.onnx") is None
