"""The convolutional student: what it is made of, what its file holds, what compilers are given of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from datk.depth.io_spec import IMAGENET_MEAN, IMAGENET_STD, DepthKind
from datk.errors import CheckpointError, UsageError
from datk.models.backbones import random_encoder
from datk.models.checkpoint_file import write_safetensors
from datk.models.deployment import deployment_module
from datk.models.depth_anything import DepthAnything, same_shape
from datk.models.presets import preset
from datk.models.weights import load_checkpoint, load_encoder, save_checkpoint

SIZE = (42, 56)


@pytest.fixture(scope="module")
def net() -> DepthAnything:
    """Random weights with running statistics of noisy pictures, so that folding has something to fold."""
    torch.manual_seed(0)
    made = DepthAnything("mobile").train()
    with torch.no_grad():
        for _ in range(20):
            made.forward_train(torch.randn(4, 3, 84, 84) * 1.5 + 0.4)
    return made.eval()


@pytest.mark.parametrize("size", [(14, 14), (28, 42), (42, 56), (98, 126), (70, 14)])
def test_gives_a_map_of_every_bucket(net: DepthAnything, size: tuple[int, int]) -> None:
    with torch.no_grad():
        raw, features = net.forward_train(torch.randn(2, 3, *size))
        depth = net(torch.randn(2, 3, *size))
    assert raw.shape == depth.shape == (2, *size) and bool((depth >= 0).all())
    coarsest = [-(-side // 32) for side in size]
    assert features.shape == (2, coarsest[0] * coarsest[1], 320)
    with pytest.raises(UsageError, match="multiples of 14"):
        net(torch.zeros(1, 3, 32, 32))


def test_is_a_thirtieth_of_small() -> None:
    figures = {}
    for name in ("mobile", "small"):
        with torch.device("meta"):
            made = DepthAnything(name).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            made(torch.empty(1, 3, 518, 518, device="meta"))
        figures[name] = (sum(p.numel() for p in made.parameters()), counter.get_total_flops() / 2e9)
    assert figures["mobile"] == (1_860_385, pytest.approx(1.90, abs=0.005))
    assert figures["small"] == (24_785_089, pytest.approx(57.63, abs=0.005))


def test_every_weight_learns_and_every_activation_has_a_known_range(net: DepthAnything) -> None:
    made = same_shape(net).train()
    raw, _ = made.forward_train(torch.randn(2, 3, 56, 70))
    raw.square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in made.parameters())
    norms = [m for m in made.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 63 and {m.momentum for m in norms} == {0.1}
    kinds = {type(m).__name__ for m in made.modules() if not list(m.children())}
    assert kinds == {"Conv2d", "BatchNorm", "ReLU6", "ReLU"}


def test_exported_program_is_convolutions_with_nothing_to_normalise(net: DepthAnything) -> None:
    module = deployment_module(net, SIZE, "nhwc_uint8")
    program = torch.export.export(module, (torch.zeros(1, *SIZE, 3, dtype=torch.uint8),))
    calls = [n for n in program.graph.nodes if n.op == "call_function"]
    counts = {name: sum(str(n.target) == name for n in calls) for name in {str(n.target) for n in calls}}
    assert counts.pop("aten.conv2d.default") == 65
    assert counts.pop("aten.hardtanh.default") == 42 and counts.pop("aten.relu.default") == 2
    assert counts.pop("aten.add.Tensor") == 14 and counts.pop("aten.upsample_bilinear2d.vec") == 5
    edges = {"aten.permute.default", "aten.to.dtype", "aten.mul.Tensor", "aten.squeeze.dim"}
    assert set(counts) - {"aten._assert_tensor_metadata.default"} == edges, "no matmul, softmax, LayerNorm, unfold"
    tensors = [n.meta["val"] for n in calls if isinstance(n.meta["val"], torch.Tensor)]
    assert max(t.ndim for t in tensors) == 4


def test_folding_batch_norm_leaves_the_function(net: DepthAnything) -> None:
    image = torch.randint(0, 256, (1, *SIZE, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        plain = net((image.permute(0, 3, 1, 2) / 255 - mean) / std)
        folded = deployment_module(net, SIZE, "nhwc_uint8")(image)
    assert plain.std() > 1e-3
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-5)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules()), "the net itself keeps its own"


def test_file_gives_the_same_net_back_whatever_its_name(net: DepthAnything, tmp_path: Path) -> None:
    path = tmp_path / "anything.bin"
    save_checkpoint(net, path, metadata={"licence": "Apache-2.0"})
    found = load_checkpoint(path)
    assert (found.preset.name, found.source_format, found.depth_kind) == (
        "mobile",
        "datk",
        DepthKind.DISPARITY_AFFINE_INVARIANT,
    )
    x = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        assert torch.equal(found.net(x), net(x))
    with pytest.raises(CheckpointError, match="holds a mobile encoder, expected DINOv2's"):
        load_encoder(path, "small")


def test_file_without_a_running_statistic_is_refused(net: DepthAnything, tmp_path: Path) -> None:
    gone = "pretrained.blocks.3.reduce_1x1.normalization.running_var"
    state = {name: value.detach() for name, value in net.state_dict().items() if name != gone}
    assert len(state) == len(net.state_dict()) - 1 and all(v.dtype == torch.float32 for v in state.values())
    write_safetensors(tmp_path / "short.safetensors", state, {"depth_kind": "disparity_affine_invariant"})
    with pytest.raises(CheckpointError, match=rf"1 problem\n  missing: {gone}"):
        load_checkpoint(tmp_path / "short.safetensors")


def test_takes_no_other_encoder() -> None:
    with pytest.raises(UsageError, match="mobile has its own encoder"):
        DepthAnything("mobile", encoder=random_encoder("vit", preset("tiny")))
