from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from datk.depth.io_spec import DepthKind
from datk.errors import CheckpointError
from datk.models import published
from datk.models.checkpoint_file import read_weights
from datk.models.depth_anything import DepthAnything
from datk.models.weights import load_checkpoint, load_encoder, save_checkpoint

RELATIVE, METRIC = DepthKind.DISPARITY_AFFINE_INVARIANT, DepthKind.DEPTH_METRIC_M
State = dict[str, Tensor]


def assert_same(net: torch.nn.Module, state: State) -> None:
    found = net.state_dict()
    assert set(found) == set(state)
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor.float()), name


def test_official_relative_file_loads_exactly(vits_path: Path) -> None:
    checkpoint = load_checkpoint(vits_path)
    assert_same(checkpoint.net, torch.load(vits_path, weights_only=True))
    assert (checkpoint.preset.name, checkpoint.depth_kind, checkpoint.max_depth_m) == ("small", RELATIVE, None)
    assert (checkpoint.source_format, checkpoint.licence) == ("official", "Apache-2.0")
    assert len(checkpoint.sha256) == 64 and not checkpoint.net.training
    frozen = {n for n, p in checkpoint.net.named_parameters() if not p.requires_grad}
    assert "pretrained.mask_token" in frozen and len(frozen) == 5


@pytest.mark.parametrize(("name", "maximum"), [("hypersim", 20.0), ("vkitti", 80.0)])
def test_official_metric_names_say_the_maximum_depth(
    vits_path: Path, tmp_path: Path, name: str, maximum: float
) -> None:
    path = tmp_path / f"depth_anything_v2_metric_{name}_vits.pth"
    path.symlink_to(vits_path)
    checkpoint = load_checkpoint(path)
    assert (checkpoint.depth_kind, checkpoint.max_depth_m) == (METRIC, maximum)
    assert checkpoint.net.max_depth_m == maximum


def test_base_file_is_recognised_by_content(shapes_of: Callable, cheap: Callable, tmp_path: Path) -> None:
    path = tmp_path / "depth_anything_v2_vitb.pth"
    torch.save(cheap(shapes_of("base")), path)
    checkpoint = load_checkpoint(path)
    assert (checkpoint.preset.name, checkpoint.licence) == ("base", "CC-BY-NC-4.0")


@pytest.mark.parametrize(("size", "encoder"), [("large", "vitl"), ("giant", "vitg")])
def test_every_key_and_shape_of_the_big_files_is_expected(
    shapes_of: Callable, cheap: Callable, tmp_path: Path, size: str, encoder: str
) -> None:
    """One foreign key keeps the gigabytes from being filled; it must be the only complaint."""
    path = tmp_path / f"depth_anything_v2_{encoder}.pth"
    torch.save(cheap(shapes_of(size)) | {"depth_head.foreign": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"1 problem\n  unexpected: depth_head\.foreign$"):
        load_checkpoint(path)


@pytest.mark.parametrize("wrapper", ["model", "state_dict"])
def test_training_script_files_are_unwrapped(tiny_state: State, tmp_path: Path, wrapper: str) -> None:
    path = tmp_path / "latest.pth"
    inner = {f"module.{k}": v for k, v in tiny_state.items()}
    rest = {"optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}, "epoch": 3, "previous_best": {"abs_rel": 0.1}}
    torch.save({wrapper: inner, **rest}, path)
    checkpoint = load_checkpoint(path, depth_kind=METRIC, max_depth_m=20.0)
    assert_same(checkpoint.net, tiny_state)
    assert checkpoint.source_format == "official+wrapper" and checkpoint.max_depth_m == 20.0


def test_old_torch_format_and_half_precision_load(tiny_state: State, tmp_path: Path) -> None:
    half = {k: v.half() for k, v in tiny_state.items()}
    torch.save(half, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    checkpoint = load_checkpoint(tmp_path / "old.pth", depth_kind=RELATIVE)
    assert_same(checkpoint.net, half)
    assert {p.dtype for p in checkpoint.net.parameters()} == {torch.float32}


def distill_any_depth_large_names(state: State) -> State:
    """Its large net calls the encoder `backbone` and keeps all blocks in one chunk."""
    return {k.replace("pretrained.", "backbone.").replace("blocks.", "blocks.0."): v for k, v in state.items()}


def test_distill_any_depth_safetensors_load_in_both_spellings(tiny_state: State, tmp_path: Path) -> None:
    save_file(tiny_state, tmp_path / "small.safetensors")
    save_file(distill_any_depth_large_names(tiny_state), tmp_path / "large.safetensors")
    for name, source in (("small", "official"), ("large", "distill-any-depth")):
        checkpoint = load_checkpoint(tmp_path / f"{name}.safetensors", depth_kind=RELATIVE)
        assert_same(checkpoint.net, tiny_state)
        assert checkpoint.source_format == source


def test_own_checkpoint_round_trip_needs_no_questions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = DepthAnything("tiny", depth_kind=METRIC, max_depth_m=12.5)
    save_checkpoint(net, tmp_path / "sub" / "a.safetensors", metadata={"licence": "CC-BY-NC-4.0", "run": "7"})
    save_checkpoint(net, tmp_path / "b.safetensors", metadata={"run": "7", "licence": "CC-BY-NC-4.0"})
    checkpoint = load_checkpoint(tmp_path / "sub" / "a.safetensors")
    assert_same(checkpoint.net, net.state_dict())
    assert (checkpoint.source_format, checkpoint.depth_kind, checkpoint.max_depth_m) == ("datk", METRIC, 12.5)
    assert checkpoint.licence == "CC-BY-NC-4.0" and checkpoint.metadata["run"] == "7"
    assert (tmp_path / "sub" / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.safetensors", "b.safetensors"]
    with safe_open(tmp_path / "b.safetensors", "np") as handle:  # the library reads what we wrote
        np.testing.assert_array_equal(handle.get_tensor("pretrained.pos_embed"), net.pretrained.pos_embed.detach())


def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")

    def full_disk(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(DepthAnything("tiny"), path, metadata={})
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


# what it predicts


def test_kind_is_never_guessed(tiny_state: State, tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save(tiny_state, path)
    with pytest.raises(CheckpointError, match="nothing says whether") as caught:
        load_checkpoint(path)
    assert "--kind relative" in (caught.value.hint or "") and "--max-depth" in (caught.value.hint or "")
    with pytest.raises(CheckpointError, match="how many metres"):
        load_checkpoint(path, depth_kind=METRIC)
    with pytest.raises(CheckpointError, match="no maximum depth"):
        load_checkpoint(path, depth_kind=RELATIVE, max_depth_m=20.0)
    assert load_checkpoint(path, max_depth_m=10.0).depth_kind is METRIC


def test_user_and_file_must_not_contradict_each_other(vits_path: Path) -> None:
    with pytest.raises(CheckpointError, match="official name says relative, the command says metric up to 20 m"):
        load_checkpoint(vits_path, depth_kind=METRIC, max_depth_m=20.0)
    assert load_checkpoint(vits_path, depth_kind=RELATIVE).depth_kind is RELATIVE


def test_name_of_another_size_is_refused(vits_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "depth_anything_v2_vitl.pth"
    path.symlink_to(vits_path)
    with pytest.raises(CheckpointError, match="named vitl, but holds a small net"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["depth_anything_vits14.pth", "depth_anything_metric_depth_indoor.pth"])
def test_version_1_names_are_refused_although_their_shapes_fit(vits_path: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(vits_path)
    with pytest.raises(CheckpointError, match="version 1"):
        load_checkpoint(tmp_path / name, depth_kind=RELATIVE)


def test_renamed_released_file_is_known_by_its_hash(
    tiny_state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "renamed.pth"
    torch.save(tiny_state, path)
    sha256 = load_checkpoint(path, depth_kind=RELATIVE).sha256
    known = published.Published("tiny", 80.0, "depth_anything_v2_metric_vkitti_x.pth", sha256, ())
    monkeypatch.setattr(published, "PUBLISHED", (known,))
    assert load_checkpoint(path).max_depth_m == 80.0


# what is refused


class _Payload:
    """Unpickled without care, it runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_malicious_pickle_is_refused_and_not_run(tiny_state: State, tmp_path: Path, zipped: bool) -> None:
    victim = tmp_path / "victim"
    path = tmp_path / "depth_anything_v2_vits.pth"
    content = {**tiny_state, "payload": _Payload(f"touch {victim}")}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="nothing was run"):
        load_checkpoint(path)
    assert not victim.exists()
    torch.load(path, weights_only=False)  # the payload is a live one
    assert victim.exists()


def make(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:715f\nsize 99218434\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>Access denied</body></html>", "web page"),
        (b"not weights at all", "not a weights file"),
        (b"\x80\x02}q\x00.", "refused|cannot be read"),
        (b"PK\x03\x04 and then nothing", "cut short"),
        ((10**6).to_bytes(8, "little") + b'{"a":', "not a complete safetensors"),
    ],
    ids=["empty", "lfs", "html", "text", "pickle", "zip", "safetensors"],
)
def test_impostors_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = make(tmp_path, "depth_anything_v2_vits.pth", content)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert str(path) in caught.value.message and caught.value.exit_code == 2
    with pytest.raises(CheckpointError):
        load_encoder(path, "small")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_truncated_files_are_refused(tiny_state: State, tmp_path: Path, share: float) -> None:
    torch.save(tiny_state, tmp_path / "whole.pth")
    save_file(tiny_state, tmp_path / "whole.safetensors")
    for suffix in (".pth", ".safetensors"):
        whole = (tmp_path / f"whole{suffix}").read_bytes()
        path = make(tmp_path, f"cut{suffix}", whole[: int(len(whole) * share)])
        with pytest.raises(CheckpointError, match=r"cut short|not a complete"):
            load_checkpoint(path, depth_kind=RELATIVE)


def test_damaged_files_are_refused_or_read_but_never_crash(tmp_path: Path) -> None:
    """600 files with a few bytes changed, a fifth of them also cut."""
    state = {f"a{i}": torch.ones(4, 3) for i in range(3)}
    torch.save({"model": state, "epoch": 1}, tmp_path / "zip.pth")
    torch.save(state, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "a.safetensors")
    rng = np.random.default_rng(0)
    refused = 0
    for whole in [p.read_bytes() for p in sorted(tmp_path.iterdir())]:
        for _ in range(200):
            damaged = bytearray(whole)
            for place in rng.integers(0, min(len(whole), 1200), size=rng.integers(1, 4)):
                damaged[place] = rng.integers(0, 256)
            path = make(
                tmp_path, "damaged", bytes(damaged[: rng.integers(1, len(whole))] if rng.random() < 0.2 else damaged)
            )
            try:
                read_weights(path)
            except CheckpointError:
                refused += 1
    assert refused > 200


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path / "nowhere.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_checkpoint(tmp_path)


def test_missing_extra_and_misshapen_tensors_are_all_listed(tiny_state: State, tmp_path: Path) -> None:
    del tiny_state["depth_head.projects.0.weight"]
    tiny_state["extra"] = torch.zeros(2)
    tiny_state["pretrained.pos_embed"] = torch.zeros(1, 257, 192)
    tiny_state["pretrained.norm.bias"] = torch.zeros(192, dtype=torch.int64)
    torch.save(tiny_state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "w.pth", depth_kind=RELATIVE)
    assert caught.value.message.splitlines()[1:] == [
        "  missing: depth_head.projects.0.weight",
        "  unexpected: extra",
        "  shape: pretrained.pos_embed is (1, 257, 192), expected (1, 1370, 192)",
        "  type: pretrained.norm.bias is int64, expected floating point",
    ]
    assert "4 problems" in caught.value.message


def test_only_the_first_problems_are_shown(tiny_state: State, tmp_path: Path) -> None:
    state = {k: v for k, v in tiny_state.items() if "depth_head" not in k or "projects" in k}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"\n  and \d+ more$"):
        load_checkpoint(tmp_path / "w.pth", depth_kind=RELATIVE)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tiny_state: State, tmp_path: Path, value: float) -> None:
    tiny_state["pretrained.blocks.3.mlp.fc1.weight"][5, 7] = value
    torch.save(tiny_state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"not finite: pretrained\.blocks\.3\.mlp\.fc1\.weight holds 1 NaN"):
        load_checkpoint(tmp_path / "w.pth", depth_kind=RELATIVE)


@pytest.mark.parametrize("content", [[1, 2], {"model": {"a": 1}}, {"a": torch.zeros(2)}, {}, {"model": {}}])
def test_other_torch_files_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"named tensors|no Depth Anything V2 weights"):
        load_checkpoint(tmp_path / "w.pth", depth_kind=RELATIVE)


def test_other_widths_are_refused(tiny_state: State, tmp_path: Path) -> None:
    state = {k: v for k, v in tiny_state.items() if "blocks.7" not in k}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="width 192 with 7 blocks"):
        load_checkpoint(tmp_path / "w.pth", depth_kind=RELATIVE)


# encoders


def encoder_part(state: State) -> State:
    return {k.removeprefix("pretrained."): v for k, v in state.items() if k.startswith("pretrained.")}


def test_dinov2_file_is_an_encoder_and_no_net(tiny_state: State, tmp_path: Path) -> None:
    path = tmp_path / "dinov2_vitt14_pretrain.pth"
    torch.save(encoder_part(tiny_state), path)
    with pytest.raises(CheckpointError, match="encoder without a depth head, for training only"):
        load_checkpoint(path)
    assert_same(load_encoder(path, "tiny"), encoder_part(tiny_state))


def test_encoder_of_a_whole_checkpoint_loads(tiny_state: State, tmp_path: Path) -> None:
    save_file(distill_any_depth_large_names(tiny_state), tmp_path / "w.safetensors")
    assert_same(load_encoder(tmp_path / "w.safetensors", "tiny"), encoder_part(tiny_state))


def test_encoder_of_another_size_or_with_registers_is_refused(tiny_state: State, tmp_path: Path) -> None:
    torch.save(encoder_part(tiny_state), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="holds a tiny encoder, expected small"):
        load_encoder(tmp_path / "w.pth", "small")
    torch.save(encoder_part(tiny_state) | {"register_tokens": torch.zeros(1, 4, 192)}, tmp_path / "r.pth")
    with pytest.raises(CheckpointError, match="registers"):
        load_encoder(tmp_path / "r.pth", "tiny")


@pytest.mark.parametrize("size", ["small", "base", "large", "giant"])
def test_every_key_and_shape_of_dinov2_files_is_expected(
    encoder_shapes_of: Callable, cheap: Callable, tmp_path: Path, size: str
) -> None:
    torch.save(cheap(encoder_shapes_of(size)) | {"foreign": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="1 problem"):
        load_encoder(tmp_path / "w.pth", size)


# config.json


def test_config_of_another_model_is_refused(tiny_state: State, tmp_path: Path) -> None:
    from datk.models.checkpoint_file import WeightsFile
    from datk.models.checkpoint_kind import resolve_kind
    from datk.models.presets import preset

    path = tmp_path / "model.safetensors"
    file = WeightsFile({}, {}, None, "0" * 64)
    good = {"model_type": "depth_anything", "backbone_config": {"out_indices": [3, 6, 9, 12]}}
    cases = {
        "not readable JSON": "{",
        "not the config of a depth_anything": json.dumps(good | {"model_type": "dpt"}),
        "out_indices is \\[9, 10, 11, 12\\]": json.dumps(good | {"backbone_config": {"out_indices": [9, 10, 11, 12]}}),
        "out_indices is None": json.dumps({"model_type": "depth_anything"}),
        "max_depth None": json.dumps(good | {"depth_estimation_type": "metric"}),
        "'inverse'": json.dumps(good | {"depth_estimation_type": "inverse"}),
    }
    for message, text in cases.items():
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match=message):
            resolve_kind(path, file, "huggingface", preset("small"), None, None)
    (tmp_path / "config.json").write_text(json.dumps(good))
    assert resolve_kind(path, file, "huggingface", preset("small"), None, None) == (RELATIVE, None)
    metric = json.dumps(good | {"depth_estimation_type": "metric", "max_depth": 80})
    (tmp_path / "config.json").write_text(metric)
    assert resolve_kind(path, file, "huggingface", preset("small"), None, None) == (METRIC, 80.0)
