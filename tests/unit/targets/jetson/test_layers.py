"""build_and_check.py --layers on a stand-in for TensorRT, NOT NVIDIA's: which layer is named when one is wrong."""

from __future__ import annotations

import json
import shutil
from math import gcd
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import datk.targets.jetson
from datk.depth.io_spec import DepthKind, contract_for
from datk.targets.device_build import DeviceAnswer
from datk.targets.jetson.on_device import SCRIPTS
from datk.targets.jetson.opset17 import in_opset_17
from datk.targets.jetson.plan import WEAK, build_plan
from datk.targets.jetson.samples import BUDGET, sampled_tensors, write_samples
from datk.targets.onnx.half import half_precision

from .on_stand_in import check
from .small_graph import H, W, run, small_graph

TEMPLATES = Path(datk.targets.jetson.__file__).parent / "device"
IMAGES = np.random.default_rng(0).integers(0, 256, (2, H, W, 3)).astype(np.uint8)


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder as exported, and a function that runs its script: (exit status, JSON, the stand-in's module)."""
    full = small_graph()
    np.savez(tmp_path / "golden.npz", image=IMAGES, depth=np.stack([r["depth"][0] for r in run(full, IMAGES)]))

    def go(precision="fp32", fault="", version="10.7.0", arguments=("--layers",)):
        typed = full if precision == "fp32" else half_precision(full)
        (tmp_path / "model.onnx").write_bytes(typed.SerializeToString())
        (tmp_path / WEAK).write_bytes(in_opset_17(full).SerializeToString())
        if not (tmp_path / "keep").exists():
            write_samples(full, typed, IMAGES[0], tmp_path / "layers.npz")
        for name in SCRIPTS:
            shutil.copy(TEMPLATES / name, tmp_path / name)
        kind = DepthKind.DISPARITY_AFFINE_INVARIANT
        contract = contract_for(input_size=(14, 14), depth_kind=kind, precision=precision)
        plan = build_plan(
            tmp_path / "model.onnx",
            contract,
            engine="depth.engine",
            golden="golden.npz",
            weak=tmp_path / WEAK,
            layers="layers.npz",
            float32_nodes=tuple(n.name for n in full.graph.node if n.op_type == "LayerNormalization"),
        )
        plan["input"]["shape"], plan["output"]["shape"] = [1, H, W, 3], [1, H, W]
        (tmp_path / "build_plan.json").write_text(json.dumps(plan))
        return check(tmp_path, monkeypatch, *arguments, fault=fault, version=version)

    return SimpleNamespace(run=go, folder=tmp_path, full=full)


PLANTED = [
    ("stem", "stem", "Conv"),
    ("b0.norm", "blocks.0.norm", "LayerNormalization"),
    ("b1.fc1", "blocks.1.fc1", "MatMul"),
    ("b2.out", "blocks.2", "Add"),
    ("centred", "head.pool", "Sub"),
    ("map", "head.out", "Conv"),
]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(("tensor", "layer", "op"), PLANTED)
def test_the_planted_layer_is_named_first(export, precision: str, tensor: str, layer: str, op: str) -> None:
    status, said, trt = export.run(precision, f"layer:{tensor}")
    first = said["layers"]["first"]
    assert (status, said["status"], said["layers"]["status"]) == (3, "failed", "found")
    assert (first["tensor"], first["layer"], first["op"]) == (tensor, layer, op)
    assert first["error"] == pytest.approx(2.0, abs=0.05) and first["usual_error"] < 0.01
    assert f"first wrong layer: {layer} ({op})" in said["detail"]
    assert said["layers"]["builds"] == len(trt.BUILT) - 1 <= 4
    assert all(len(b["also"]) <= 6 for b in trt.BUILT)


def test_a_permutation_that_is_not_done_shows_at_the_layer_that_reads_it(export) -> None:
    said = export.run("fp32", "layer:tokens")[1]
    assert said["layers"]["first"]["tensor"] == "b0.norm", "moves are not sampled: the first that computes is named"


def test_a_sound_engine_names_none_and_builds_once(export) -> None:
    for precision in ("fp32", "fp16"):
        status, said, trt = export.run(precision)
        assert (status, said["layers"]["status"], said["layers"]["first"]) == (0, "none", None)
        assert len(trt.BUILT) == 1
    assert export.run("fp16", arguments=())[1]["layers"] is None


def test_a_fault_that_goes_when_looked_at_is_a_fusion_and_said_to_be(export) -> None:
    status, said, _ = export.run("fp16", "fusion:b1.fc2")
    assert (status, said["layers"]["status"], said["layers"]["first"]) == (3, "hidden", None)
    assert "a fusion across one of these is wrong" in said["layers"]["detail"] and said["layers"]["builds"] == 1


def test_without_the_samples_that_is_said_before_anything_is_built(export) -> None:
    export.run()
    (export.folder / "keep").touch()
    (export.folder / "layers.npz").unlink()
    status, said, trt = export.run("fp32", "layer:b1.fc1")
    assert status == 4 and "layers.npz is not beside the plan; copy it from the export" in said["detail"]
    assert not trt.BUILT
    (export.folder / "layers.npz").write_bytes(b"PK not a zip")
    status, said, _ = export.run("fp32", "layer:b1.fc1")
    assert status == 4 and "layers.npz cannot be read" in said["detail"]


def test_the_search_stops_in_time_and_says_how_far_it_came(export) -> None:
    said = export.run("fp32", "layer:b0.norm", arguments=("--layers", "--layers-seconds", "0"))[1]
    assert said["layers"]["status"] == "narrowed" and "stopped after 0 builds" in said["layers"]["detail"]


def test_the_host_reads_what_the_script_writes(export) -> None:
    said = export.run("fp16", "layer:b1.fc1")[1]
    answer = DeviceAnswer.model_validate(said)
    assert answer.layers is not None and answer.layers.first is not None
    assert answer.layers.first.layer == "blocks.1.fc1"
    assert DeviceAnswer.model_validate(export.run("fp16", "fusion:b1.fc2")[1]).layers is not None


def test_an_8_6_builds_the_opset_17_file_weakly_typed_with_layer_norm_in_float32(export) -> None:
    status, said, trt = export.run("fp16", version="8.6.2")
    assert (status, said["built_from"], said["builder_flags"]) == (0, WEAK, ["FP16"])
    (built,) = trt.BUILT
    assert built["flags"] == ["FP16", "OBEY"] and len(built["float32"]) == 3
    assert built["network"] == 1 << trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH
    status, said, trt = export.run("fp32", version="8.6.2")
    assert (status, trt.BUILT[0]["flags"]) == (0, [])
    found = export.run("fp16", "layer:b1.fc1", version="8.6.2")[1]
    assert found["layers"]["first"]["layer"] == "blocks.1.fc1", "the old file has the same tensors"


def test_an_11_builds_the_strongly_typed_file_and_older_than_8_6_nothing(export) -> None:
    status, said, trt = export.run("fp16", version="11.0.0")
    assert (status, said["built_from"], said["builder_flags"]) == (0, "model.onnx", [])
    assert trt.BUILT[0]["network"] == 1 << trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    for version, words in (("8.5.2", "older than 8.6 (JetPack 6.0"), ("10.0.1", "older than 10.3 (JetPack 6.1")):
        status, said, _ = export.run("fp16", version=version)
        assert status == 4 and words in said["detail"]


def test_a_version_known_to_be_bad_warns_builds_and_needs_right_answers(export, capsys) -> None:
    assert export.run("fp16", version="10.3.0")[0] == 0
    assert "warning: TensorRT 10.3.0 is reported to miscompute such nets" in capsys.readouterr().err
    plan = json.loads((export.folder / "build_plan.json").read_text())
    assert "NVIDIA/TensorRT#4742" in plan["known_bad"][0]["sources"]
    (export.folder / "golden.npz").unlink()
    status, said, _ = export.run("fp16", version="10.3.0", arguments=())
    assert (status, said["status"]) == (3, "failed") and "not believed" in said["detail"]
    assert export.run("fp16", version="10.7.0", arguments=())[1]["status"] == "not_measured"


def test_samples_are_the_graphs_own_values_at_every_stride_and_name_what_they_are_computed_from(export) -> None:
    full = export.full
    write_samples(full, half_precision(full), IMAGES[0], export.folder / "layers.npz")
    with np.load(export.folder / "layers.npz", allow_pickle=False) as stored:
        rows = json.loads(stored["index"].tobytes())["tensors"]
        values = stored["values"]
    assert [r["tensor"] for r in rows][-1] == "depth" and "tokens" not in [r["tensor"] for r in rows]
    (whole,) = run(full, IMAGES[:1], *(r["tensor"] for r in rows[:-1]))
    start = 0
    for row in rows:
        wanted = whole[row["tensor"]].ravel()[:: row["stride"]][: row["count"]]
        np.testing.assert_allclose(values[start : start + row["count"]], wanted, rtol=1e-5, atol=1e-6)
        start += row["count"]
    assert start == len(values)
    by_name = {r["tensor"]: [rows[p]["tensor"] for p in r["reads"]] for r in rows}
    assert by_name["b0.out"] == ["stem", "b0.fc2"] and by_name["centred"] == ["b2.out", "mean"]
    assert by_name["depth"] == ["map.positive"]


def test_a_deep_graph_is_sampled_more_thinly() -> None:
    deep = small_graph(blocks=120)
    rows = sampled_tensors(deep, deep)
    assert len(rows) > 600 and sum(r.count for r in rows) <= BUDGET
    assert max(r.stride for r in rows) > 1 and all(gcd(r.stride, r.shape[-1]) == 1 for r in rows), "all channels count"
