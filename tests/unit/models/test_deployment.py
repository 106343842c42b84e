from __future__ import annotations

import pytest
import torch

from datk.errors import UsageError
from datk.models.deployment import DeploymentModule, deployment_module
from datk.models.depth_anything import DepthAnything

SIZE = (42, 56)


@pytest.fixture(scope="module")
def net() -> DepthAnything:
    torch.manual_seed(0)
    return DepthAnything("tiny")


@pytest.fixture(scope="module")
def exported(net: DepthAnything) -> torch.export.ExportedProgram:
    module = deployment_module(net, SIZE, "nhwc_uint8")
    return torch.export.export(module, (torch.zeros(1, *SIZE, 3, dtype=torch.uint8),))


def test_exported_graph_holds_only_what_every_compiler_takes(exported: torch.export.ExportedProgram) -> None:
    calls = [n for n in exported.graph.nodes if n.op == "call_function"]
    names = {str(n.target) for n in calls}
    assert not {n for n in names if "scaled_dot_product" in n or "einsum" in n or "bicubic" in n or "sym_size" in n}
    assert sum("softmax" in str(n.target) for n in calls) == 8
    assert sum("aten.matmul" in str(n.target) for n in calls) == 16
    tensors = [n.meta["val"] for n in calls if isinstance(n.meta["val"], torch.Tensor)]
    assert max(t.ndim for t in tensors) == 4
    assert {t.dtype for t in tensors} == {torch.float32, torch.uint8}
    assert all(isinstance(side, int) for t in tensors for side in t.shape)


def test_exported_layers_keep_their_official_paths(exported: torch.export.ExportedProgram) -> None:
    paths = {
        path
        for n in exported.graph.nodes
        for path, _ in n.meta.get("nn_module_stack", {}).values()
        if n.op != "placeholder"
    }
    expected = {
        "net.pretrained.patch_embed.proj",
        "net.pretrained.blocks.0.attn.qkv",
        "net.pretrained.blocks.7.mlp.fc2",
        "net.depth_head.scratch.output_conv1",
        "net.depth_head.scratch.output_conv2.0",
        "net.depth_head.scratch.output_conv2.2",
    }
    assert expected <= paths


def test_deployment_module_shares_nothing_with_the_net(net: DepthAnything) -> None:
    module = deployment_module(net, SIZE, "nchw_float")
    x = torch.full((1, 3, *SIZE), 90.0)
    before = module(x)
    pointers = {p.data_ptr() for p in net.parameters()}
    assert not pointers & {t.data_ptr() for t in module.state_dict().values()}
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1.5)
    assert torch.equal(module(x), before)
    with torch.no_grad():
        for p in net.parameters():
            p.div_(1.5)
    assert net.pretrained.fixed_position is None and hasattr(net.pretrained, "pos_embed")


def test_deployment_module_is_frozen_and_without_dead_weights(net: DepthAnything) -> None:
    module = deployment_module(net.train(), SIZE, "nhwc_uint8")
    assert not any(m.training for m in module.modules())
    assert not any(p.requires_grad for p in module.parameters())
    names = {n for n, _ in module.named_parameters()}
    assert not [
        n for n in names if "mask_token" in n or "refinenet4.resConfUnit1" in n or "gamma" in n or "pos_embed" in n
    ]
    net.eval()


def test_size_form_and_image_shape_are_checked(net: DepthAnything) -> None:
    with pytest.raises(UsageError, match="500 is not a multiple of 14; nearest are 490 and 504"):
        deployment_module(net, (500, 518), "nhwc_uint8")
    with pytest.raises(UsageError, match="no input form"):
        deployment_module(net, SIZE, "nhwc_float")  # type: ignore[arg-type]
    module: DeploymentModule = deployment_module(net, SIZE, "nhwc_uint8")
    with pytest.raises(UsageError, match="expected an image of shape"):
        module(torch.zeros(1, SIZE[1], SIZE[0], 3, dtype=torch.uint8))
