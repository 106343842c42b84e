"""The miscompile detector on an artifact made of torch itself: any fault, noise and fusion, at no compiler's cost."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from torch.fx import GraphModule, Interpreter

from datk.depth.io_spec import DepthKind, contract_for
from datk.evaluate.divergence.diagnose import Diagnosis, diagnose, float_program
from datk.evaluate.divergence.follow import layer_path, operation
from datk.evaluate.divergence.layouts import as_wanted, layouts
from datk.models.deployment import deployment_module
from datk.models.depth_anything import DepthAnything
from datk.models.presets import Preset
from datk.targets import get
from datk.targets.jetson.plan import SUSPECT
from datk.targets.known_bad import known_bad, table
from datk.targets.trace import TracedTensor, depends_on

SIZE = (42, 56)
MICRO = Preset(
    name="micro", dim=24, depth=4, heads=2, ffn="mlp", taps=(0, 1, 2, 3), features=8, out_channels=(4, 4, 8, 8),
    licence="Apache-2.0",
)  # fmt: skip
NOISE = {"fp32": 1e-6, "fp16": 1e-3, "int8": 0.02}
"""Relative error each linear and convolution adds by itself."""


def net() -> DepthAnything:
    torch.manual_seed(3)
    made = DepthAnything(MICRO).eval().requires_grad_(False)
    for module in made.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            torch.nn.init.kaiming_uniform_(module.weight, a=1.0)
    made.depth_head.scratch.output_conv2[2].weight.abs_()
    made.depth_head.scratch.output_conv2[2].bias.fill_(0.3)
    return made


IMAGE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
MODULE = deployment_module(net(), SIZE, "nhwc_uint8")
PROGRAM = float_program(MODULE, IMAGE, "nhwc_uint8")


class TorchTrace(Interpreter):
    """An exported program as a Trace: every float value under a name that says nothing."""

    label = "torch"
    input_name = "image"

    def __init__(self, program: GraphModule, *, noise: float, hidden: frozenset[str], channels_last: bool) -> None:
        super().__init__(program)
        self.noise, self.channels_last = noise, channels_last
        self.random = torch.Generator().manual_seed(1)
        self.found: dict[str, np.ndarray] = {}
        nodes = [n for n in program.graph.nodes if n.op == "call_function"]
        self.names = {n.name: f"t{i}" for i, n in enumerate(nodes)}
        self.names |= {n.name: "image" for n in program.graph.nodes if n.op == "placeholder"}
        self.hidden = {self.names[n] for n in hidden}
        last = next(n for n in program.graph.nodes if n.op == "output").all_input_nodes[0]
        self.output_name = self.names[last.name]
        made = [
            TracedTensor(
                self.names[n.name], (), operation(n), tuple(self.names.get(r.name, "") for r in n.all_input_nodes)
            )
            for n in nodes
        ]
        self.tensors = depends_on(made, "image")

    def run_node(self, n):
        value = super().run_node(n)
        if operation(n) in ("linear", "conv2d", "conv_transpose2d") and self.noise:
            value = value + self.noise * value.std() * torch.randn(value.shape, generator=self.random)
        if n.name in self.names and isinstance(value, torch.Tensor) and value.is_floating_point():
            stored = value.permute(0, 2, 3, 1) if self.channels_last and value.ndim == 4 else value
            self.found[self.names[n.name]] = stored.contiguous().numpy()
        return value

    def run(self, image, names):
        super().run(torch.from_numpy(image[None]))
        return {n: self.found[n] for n in names if n in self.found and n not in self.hidden}

    def close(self) -> None:
        pass


def look(program: GraphModule, precision: str = "fp32", hidden: frozenset[str] = frozenset(), **how) -> Diagnosis:
    trace = TorchTrace(program, noise=NOISE[precision], hidden=hidden, **{"channels_last": False, **how})
    target = SimpleNamespace(name="toy", tracer="toy", input_form="nhwc_uint8", load=lambda _: lambda a, c: trace)
    contract = contract_for(input_size=SIZE, depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision=precision)
    return diagnose(target, None, contract, MODULE, IMAGE, tools={}, program=PROGRAM)  # type: ignore[arg-type]


def nodes_of(program: GraphModule, kind: str) -> list:
    nodes = [n for n in program.graph.nodes if n.op == "call_function"]
    if kind == "weight":
        return [n for n in nodes if operation(n) in ("linear", "conv2d", "conv_transpose2d")]
    if kind == "resize":
        return [n for n in nodes if "upsample" in operation(n)]
    return [n for n in nodes if operation(n) == "transpose" and operation(next(iter(n.users))) in ("reshape", "view")]


def planted(kind: str, place: float, program: GraphModule | None = None) -> tuple[GraphModule, str]:
    """A copy with one fault, and the layer it is in."""
    spoilt = copy.deepcopy(program or PROGRAM[0])
    options = nodes_of(spoilt, kind)
    node = options[int(place * len(options))]
    if kind == "weight":
        owner, _, leaf = str(node.args[1].target).rpartition(".")
        old = getattr(spoilt.get_submodule(owner), leaf)
        order = torch.randperm(old.numel(), generator=torch.Generator().manual_seed(0))
        setattr(spoilt.get_submodule(owner), leaf, torch.nn.Parameter(old.flatten()[order].view_as(old), False))
    elif kind == "resize":
        node.args = (*node.args[:2], False, *node.args[3:])
    else:
        node.target, node.args = torch.ops.aten.clone.default, (node.args[0],)
    spoilt.recompile()
    return spoilt, layer_path(node)


@pytest.mark.slow
@settings(max_examples=12, phases=(Phase.explicit, Phase.generate))
@given(
    kind=st.sampled_from(["weight", "axis", "resize"]),
    place=st.floats(0, 0.999),
    precision=st.sampled_from(["fp32", "fp16"]),
    channels_last=st.booleans(),
)
@example(kind="axis", place=0.1, precision="fp16", channels_last=True)  # in an attention: the wrong order is a copy's
@example(kind="axis", place=0.9, precision="fp16", channels_last=True)  # in the head: stored in yet another order
def test_first_layer_named_is_the_planted_one(kind: str, place: float, precision: str, channels_last: bool) -> None:
    spoilt, layer = planted(kind, place)
    found = look(spoilt, precision, channels_last=channels_last)
    assert [f.layer for f in found.findings] == [layer], found.sentences()
    assert found.findings[0].proven
    assert layer in found.sentences()[0]


@pytest.mark.parametrize("precision", list(NOISE))
def test_a_sound_artifact_is_not_accused(precision: str) -> None:
    found = look(PROGRAM[0], precision, channels_last=True)
    assert found.findings == () and "no layer is out of line" in found.sentences()[0]
    assert found.n_found > 0.8 * found.n_layers


def test_one_wrong_output_channel_is_enough() -> None:
    spoilt = copy.deepcopy(PROGRAM[0])
    node = nodes_of(spoilt, "weight")[6]
    weight = spoilt.get_parameter(str(node.args[1].target))
    weight.data = weight.data.clone()
    weight.data[3] *= -1
    assert look(spoilt).findings[0].layer == layer_path(node)


def test_two_faults_are_told_in_order() -> None:
    once, first = planted("weight", 0.2)
    twice, second = planted("resize", 0.5, once)
    assert [f.layer for f in look(twice).findings] == [first, second]


def test_layers_fused_with_their_activation_are_still_told_apart() -> None:
    """A convolution whose own result is nowhere in the file, only what the ReLU behind it makes of it."""
    fused = frozenset(
        n.name for n in nodes_of(PROGRAM[0], "weight") if operation(next(iter(n.users))) in ("relu", "gelu")
    )
    assert len(fused) >= 8
    assert look(PROGRAM[0], hidden=fused).findings == ()
    for place in (0.15, 0.9):
        spoilt, layer = planted("weight", place)
        assert look(spoilt, hidden=fused).findings[0].layer == layer


def test_not_a_number_is_told_with_its_first_tensor() -> None:
    spoilt = copy.deepcopy(PROGRAM[0])
    node = nodes_of(spoilt, "weight")[5]
    weight = spoilt.get_parameter(str(node.args[1].target))
    weight.data = weight.data.clone()
    weight.data[0, 0] = float("inf")
    found = look(spoilt)
    assert found.not_finite and found.sentences()[0].startswith("not finite from 't")
    assert found.findings[0].layer == layer_path(node)


@given(shape=st.lists(st.integers(1, 4), min_size=3, max_size=4), data=st.data())
def test_every_layout_found_puts_a_stored_tensor_back(shape: list[int], data) -> None:
    wanted = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
    order = data.draw(st.permutations(range(len(shape))))
    stored = np.ascontiguousarray(wanted.transpose(0, *(1 + i for i in order)))
    options = list(layouts(stored.shape, wanted.shape))
    assert options[0] == ()
    assert any(np.array_equal(as_wanted(stored, option, wanted.shape), wanted) for option in options)
    assert list(layouts((2, 3), (7,))) == []


JETSON = contract_for(input_size=SIZE, depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision="fp16")


def test_known_bad_tensorrt_is_certain_conditional_or_absent() -> None:
    named = known_bad(get("jetson"), JETSON, {"tensorrt": "10.3.0.26"})
    assert named[0].certain and "10.3.0.26" in named[0].sentence() and "NVIDIA/TensorRT#4742" in named[0].sentence()
    unknown = known_bad(get("jetson"), JETSON, {"tensorrt": "absent"})
    assert not unknown[0].certain and "if it runs on tensorrt >=10.3,<10.5" in unknown[0].sentence()
    assert known_bad(get("jetson"), JETSON, {"tensorrt": "10.12.0"}) == ()
    assert not [k for k in known_bad(get("onnx"), JETSON, {"tensorrt": "10.3.0"}) if k.tool == "tensorrt"]


def test_the_jetsons_plan_and_the_table_name_the_same_versions() -> None:
    for version in SUSPECT:
        assert known_bad(get("jetson"), JETSON, {"tensorrt": version})[0].certain
    assert len({row.name for row in table()}) == len(table()) and all(row.sources for row in table())
