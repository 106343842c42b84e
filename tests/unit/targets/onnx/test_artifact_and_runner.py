"""The file carries its contract and nothing of this machine; the runner refuses what is not what it says."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from datk.depth.io_spec import DepthKind, contract_for
from datk.errors import DataError, TargetError
from datk.targets.base import BuildRequest
from datk.targets.onnx.artifact import read_contract
from datk.targets.onnx.build import build
from datk.targets.onnx.runner import open_artifact

SIZE = (14, 28)


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.norm = torch.nn.LayerNorm(4)
        self.head = torch.nn.Linear(4, 1)

    def forward(self, x):
        x = (x.permute(0, 3, 1, 2).to(torch.float32) - 120) / 60
        x = self.norm(self.conv(x).permute(0, 2, 3, 1))  # (1, h, w, 4)
        return torch.relu(self.head(x) + 3.0).squeeze(-1)


def request(out, module, precision="fp32", **kw):
    out.mkdir(exist_ok=True)
    kind = kw.pop("depth_kind", DepthKind.DISPARITY_AFFINE_INVARIANT)
    return BuildRequest(module=module, precision=precision, input_size=SIZE, depth_kind=kind, out=out, **kw)


@pytest.fixture(scope="module")
def small():
    return Small().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def exported(small, tmp_path_factory):
    return build(request(tmp_path_factory.mktemp("onnx"), small, metadata={"checkpoint_sha256": "ab" * 32}))


def test_metadata_holds_contract_precision_hashes_in_order(exported):
    model = onnx.load(exported.artifact)
    props = {p.key: p.value for p in model.metadata_props}
    assert list(props) == sorted(props)
    assert props["datk.precision"] == "fp32" and props["checkpoint_sha256"] == "ab" * 32
    assert len(props["datk.weights_sha256"]) == 64
    assert read_contract(exported.artifact) == exported.contract


def test_no_path_user_or_host_name_is_in_the_file(exported):
    data = exported.artifact.read_bytes()
    here = (str(Path(__file__).parent), str(Path(torch.__file__).parent), socket.gethostname(), "stack_trace", ".py")
    assert not [text for text in here if text.encode() in data]
    assert f"/{getpass.getuser()}/".encode() not in data


def test_layernorm_is_one_op_and_opset_is_20(small, exported, tmp_path):
    half = build(request(tmp_path / "half", small, "fp16")).artifact
    for path in (exported.artifact, half):
        model = onnx.load(path)
        assert [n.op_type for n in model.graph.node].count("LayerNormalization") == 1
        assert model.opset_import[0].version >= 20


def test_metric_contract_says_larger_is_farther(small, tmp_path):
    made = build(request(tmp_path / "metric", small, depth_kind=DepthKind.DEPTH_METRIC_M, max_depth_m=20.0))
    assert (made.contract.larger_is, made.contract.max_depth_m) == ("farther", 20.0)
    assert read_contract(made.artifact) == made.contract


def test_a_net_with_other_edges_is_refused(tmp_path):
    class Wrong(torch.nn.Module):
        def forward(self, x):
            return x.to(torch.float32).mean(3, keepdim=True)

    with pytest.raises(TargetError, match=r"expected \(1, 14, 28, 3\) -> \(1, 14, 28\)"):
        build(request(tmp_path / "wrong", Wrong().eval()))


def test_what_the_exporter_cannot_take_is_passed_on(tmp_path):
    class Branches(torch.nn.Module):
        def forward(self, x):
            return x[0, :, :, 0].float()[None] if x.float().sum() > 0 else x[0, :, :, 1].float()[None]

    with pytest.raises(TargetError, match="could not export"):
        build(request(tmp_path / "branches", Branches().eval()))
    assert list((tmp_path / "branches").iterdir()) == []


def test_a_changed_weight_changes_the_answer_and_the_hash(small, exported, tmp_path):
    other = Small().eval().requires_grad_(False)
    other.head.bias.add_(1.0)
    made = build(request(tmp_path / "other", other))
    image = np.full((*SIZE, 3), 99, np.uint8)
    first, second = (open_artifact(r.artifact, r.contract).predict(image) for r in (exported, made))
    np.testing.assert_allclose(second, first + 1.0, rtol=1e-5)
    hashes = {p.value for r in (exported, made) for p in onnx.load(r.artifact).metadata_props if "weights" in p.key}
    assert len(hashes) == 2


def test_runner_refuses_files_that_are_not_what_the_contract_says(exported, tmp_path):
    with pytest.raises(TargetError, match="no such file"):
        open_artifact(tmp_path / "none.onnx", exported.contract)
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(TargetError, match=r"bad\.onnx: ONNX Runtime cannot load it"):
        open_artifact(tmp_path / "bad.onnx", exported.contract)
    other = contract_for(input_size=(28, 28), depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision="fp32")
    with pytest.raises(TargetError, match=r"expected one tensor image \(1, 28, 28, 3\)") as caught:
        open_artifact(exported.artifact, other)
    assert "different exports" in (caught.value.hint or "")
    with pytest.raises(DataError, match="expected a uint8 RGB image"):
        open_artifact(exported.artifact, exported.contract).predict(np.zeros((28, 14, 3), np.uint8))


def test_label_says_when_int8_was_computed_in_float(exported):
    int8 = exported.contract.model_copy(update={"precision": "int8"})
    assert open_artifact(exported.artifact, int8).label == "onnxruntime-cpu-qdq-in-float"
    assert open_artifact(exported.artifact, int8, purpose="latency").label == "onnxruntime-cpu"
    assert open_artifact(exported.artifact, exported.contract).label == "onnxruntime-cpu"


def test_too_large_for_protobuf_is_told_with_a_way_out(small, tmp_path, monkeypatch):
    import datk.targets.onnx.export as export

    monkeypatch.setattr(export, "PROTOBUF_LIMIT_BYTES", 100)
    with pytest.raises(TargetError, match="more than protobuf's 2 GB") as caught:
        build(request(tmp_path / "large", small))
    assert "fp16" in (caught.value.hint or "")
