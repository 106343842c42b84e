from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from datk.depth.io_spec import DepthKind
from datk.errors import UsageError
from datk.models.depth_anything import DepthAnything
from datk.models.presets import PRESETS

METRIC, RELATIVE = DepthKind.DEPTH_METRIC_M, DepthKind.DISPARITY_AFFINE_INVARIANT
COUNTS = {
    "small": (22_056_576, 2_728_513, 24_785_089, 73_856),
    "base": (86_580_480, 10_890_305, 97_470_785, 295_168),
    "large": (304_368_640, 30_947_009, 335_315_649, 1_180_160),
    "giant": (1_136_480_768, 121_651_457, 1_258_132_225, 2_654_976),
}


def meta_net(name: str) -> DepthAnything:
    with torch.device("meta"):
        return DepthAnything(name)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", list(COUNTS))
def test_parameter_counts_are_those_of_the_published_nets(name: str) -> None:
    net = meta_net(name)
    found = (count(net.pretrained), count(net.depth_head), count(net))
    dead = count(net.depth_head.scratch.refinenet4.resConfUnit1)
    assert (*found, dead) == COUNTS[name]


@pytest.mark.parametrize("name", [n for n, p in PRESETS.items() if p.backbone == "dinov2"])
def test_state_dict_has_every_official_key_and_shape(name: str, shapes_of: Callable) -> None:
    found = {k: tuple(v.shape) for k, v in meta_net(name).state_dict().items()}
    assert found == shapes_of(name)


def test_weights_nothing_reads_take_no_gradient_and_all_others_get_one() -> None:
    torch.manual_seed(0)
    net = DepthAnything("tiny")
    raw, features = net.forward_train(torch.randn(2, 3, 56, 70))
    (raw.mean() + features.square().mean()).backward()
    frozen = {n for n, p in net.named_parameters() if not p.requires_grad}
    dead = "depth_head.scratch.refinenet4.resConfUnit1."
    assert frozen == {"pretrained.mask_token", *(n for n in net.state_dict() if n.startswith(dead))}
    without = {n for n, p in net.named_parameters() if p.requires_grad and p.grad is None}
    assert without == set()


def test_untrained_relative_net_is_alive_behind_its_relu() -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        with torch.no_grad():
            out = DepthAnything("tiny")(torch.randn(1, 3, 70, 56))
        assert float(out.min()) > 0


def test_forward_is_the_activation_of_forward_train() -> None:
    torch.manual_seed(0)
    relative = DepthAnything("tiny").eval()
    torch.nn.init.constant_(relative.depth_head.scratch.output_conv2[2].bias, 0.0)  # some pixels below zero
    metric = DepthAnything("tiny", depth_kind=METRIC, max_depth_m=20.0).eval()
    metric.load_state_dict(relative.state_dict())
    x = torch.randn(1, 3, 42, 56)
    with torch.no_grad():
        raw, features = relative.forward_train(x)
        assert (raw < 0).any() and (raw > 0).any()
        assert torch.equal(relative(x), raw.clamp(min=0))
        torch.testing.assert_close(metric(x), 20.0 / (1 + torch.exp(-raw)))
    assert raw.shape == (1, 42, 56) and features.shape == (1, 3 * 4, 192)


def test_features_are_normalised_tokens_of_the_last_block() -> None:
    torch.manual_seed(0)
    net = DepthAnything("tiny").eval()
    with torch.no_grad():
        features = net.forward_train(torch.randn(1, 3, 28, 28))[1]
    assert float(features.mean(-1).abs().max()) < 1e-4  # LayerNorm with its starting gain and shift
    assert features.var(-1, correction=0).sub(1).abs().max() < 1e-2


def test_gradient_checkpointing_changes_nothing() -> None:
    torch.manual_seed(0)
    net = DepthAnything("tiny").train()
    x = torch.randn(1, 3, 28, 42)
    gradients = []
    for flag in (False, True):
        net.pretrained.gradient_checkpointing = flag
        net.zero_grad()
        net.forward_train(x)[0].square().mean().backward()
        gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("shape", [(1, 3, 50, 56), (1, 3, 56, 50), (1, 1, 56, 56), (3, 56, 56)])
def test_inputs_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="multiples of 14"):
        DepthAnything("tiny")(torch.zeros(shape))


@pytest.mark.parametrize(("kind", "maximum"), [(METRIC, None), (METRIC, 0.0), (RELATIVE, 20)])
def test_kind_and_maximum_depth_must_belong_together(kind: DepthKind, maximum: float | None) -> None:
    with pytest.raises(UsageError):
        DepthAnything("tiny", depth_kind=kind, max_depth_m=maximum)


def test_training_computes_the_deployed_function() -> None:
    """In training a 1x1 convolution runs before the resize it follows in the deployed net: equal up to rounding."""
    net = DepthAnything("tiny")
    image = torch.randn(1, 3, 42, 56, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        trained, deployed = net.train()(image), net.eval()(image)
    assert float(deployed.std()) > 1e-3
    assert float((trained - deployed).abs().max()) < 1e-5 * float(deployed.abs().max())
