"""The sensitivity map measures what quantising one layer alone does, resumes, and is what a scheme can use."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
import torch

from datk.depth.io_spec import DepthKind
from datk.errors import DataError
from datk.evaluate.metrics import correlation
from datk.pipeline.sensitivity import _measure
from datk.quantize.ptq import export_program
from datk.quantize.sensitivity import Form, SensitivityMeter, rounded_activation, rounded_weight
from datk.quantize.sensitivity_map import SensitivityMap, UnitRow, read_map, write_map
from datk.quantize.units import kind_of
from datk.report.sensitivity_plot import write_sensitivity_plot
from datk.targets.pt2e import LinearConvQuantizer

SIZE = (28, 42)
KIND = DepthKind.DISPARITY_AFFINE_INVARIANT


def meter_of(module, images, **form) -> SensitivityMeter:
    meter = SensitivityMeter(module, images, input_form="nhwc_uint8", input_size=SIZE, form=Form(**form))
    meter.learn_ranges(images, lambda done, total: None)
    return meter


def errors(meter, image) -> dict[str, float]:
    return {unit.name: figures["error"] for unit, figures in meter.measure(image, meter.units, KIND)}


def by_hand(module, images, image, layer: str) -> float:
    """The same with hooks on the torch module: every image for the range, then one run with the layer rounded."""
    linear = module.get_submodule(layer)
    seen: list[torch.Tensor] = []
    hook = linear.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    for one in images:
        module(torch.from_numpy(one[None]))
    hook.remove()
    expected = module(torch.from_numpy(image[None]))
    low, high = min(float(x.min()) for x in seen), max(float(x.max()) for x in seen)
    scale = (max(high, 0) - min(low, 0)) / 255
    zero = round(-min(low, 0) / scale)

    def rounded(_, x):
        return ((x[0] / scale).round().add(zero).clamp(0, 255).sub(zero) * scale,)

    plain = linear.weight.data
    steps = plain.abs().flatten(1).amax(1).view(-1, *[1] * (plain.ndim - 1)) / 127
    linear.weight.data = (plain / steps).round().clamp(-127, 127) * steps
    hook = linear.register_forward_pre_hook(rounded)
    found = module(torch.from_numpy(image[None]))
    hook.remove()
    linear.weight.data = plain
    return 1 - correlation(found[0].numpy(), expected[0].numpy())


def test_each_layers_figure_is_that_of_the_net_with_this_layer_rounded(toy, images) -> None:
    module = toy()
    found = errors(meter_of(module, images), images[0])
    for layer in ("blocks.0.qkv", "blocks.1.fc2", "output_conv1", "patch_embed.proj"):
        assert found[layer] == pytest.approx(by_hand(module, images, images[0], f"net.{layer}"), rel=0.02, abs=1e-9)
        assert found[layer] > 1e-8, "rounding to 8 bits must show"


def test_units_are_layers_blocks_and_kinds_and_a_group_is_worse_than_its_best_member(toy, images) -> None:
    meter = meter_of(toy(), images)
    levels = {level: [u for u in meter.units if u.level == level] for level in ("layer", "block", "kind")}
    assert [u.name for u in levels["layer"]][:3] == ["patch_embed.proj", "blocks.0.qkv", "blocks.0.proj"]
    kinds = {u.name: u for u in levels["kind"]}
    assert {"qkv", "fc1", "softmax", "layer_norm", "residual add", "attention matmul"} <= set(kinds)
    assert len(kinds["residual add"].nodes) >= 4 and not kinds["softmax"].weighted
    found = errors(meter, images[1])
    assert found["fc1"] > 0.3 * max(found["blocks.0.fc1"], found["blocks.1.fc1"])
    assert found["softmax"] > 0


def test_a_layer_with_an_outlier_channel_comes_out_on_top(toy, images) -> None:
    module = toy()
    block = module.net.blocks[1]
    block.norm2.weight.data[3] *= 300
    block.norm2.bias.data[3] *= 300
    block.fc1.weight.data[:, 3] /= 300
    found = errors(meter_of(module, images), images[0])
    layers = [u.name for u in meter_of(module, images).units if u.level == "layer"]
    assert max(layers, key=found.__getitem__) == "blocks.1.fc1"


def test_symmetric_activations_and_quantised_outputs_cost_more(toy, images) -> None:
    plain = errors(meter_of(toy(), images), images[0])
    symmetric = errors(meter_of(toy(), images, symmetric_activations=True), images[0])
    outputs = errors(meter_of(toy(), images, quantize_outputs=True), images[0])
    assert symmetric["blocks.0.fc2"] > plain["blocks.0.fc2"], "GELU's range is one-sided"
    assert outputs["output_conv1"] > plain["output_conv1"]


def test_rounding_keeps_zero_and_stays_within_half_a_step() -> None:
    x = torch.linspace(-1.0, 3.0, 401)
    found = rounded_activation(x, -1.0, 3.0, symmetric=False)
    assert float((found - x).abs().max()) <= 0.51 * 4 / 255
    assert float(rounded_activation(x * 0, -1, 3, symmetric=True).sum()) == 0
    weight = torch.randn(4, 6) * torch.tensor([1e-3, 1.0, 30.0, 0.0])[:, None]
    steps = weight.abs().amax(1, keepdim=True) / 127
    assert bool(((rounded_weight(weight, per_channel=True) - weight).abs() <= 0.51 * steps + 1e-30).all())


class Interrupting:
    """Stops the measurement the way Ctrl-C does, after a number of units."""

    def __init__(self, after: int) -> None:
        self.left = after

    def progress(self, done: int, total: int, what: str = "", stage: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_interrupted_map_goes_on_and_equals_an_uninterrupted_one(toy, images, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("datk.pipeline.sensitivity.SAVE_EVERY_S", 0.0)
    meter = meter_of(toy(), images[:2])

    def empty() -> SensitivityMap:
        rows = [UnitRow(name=u.name, level=u.level, kind=u.kind) for u in meter.units]
        return SensitivityMap(key="k", complete=False, facts={"seconds": 0.0}, units=rows)

    whole = empty()
    _measure(whole, meter, images[:2], KIND, tmp_path / "whole.json", Interrupting(-1))
    part = tmp_path / "part.json"
    with pytest.raises(KeyboardInterrupt):
        _measure(empty(), meter, images[:2], KIND, part, Interrupting(len(meter.units) + 3))
    begun = read_map(part)
    assert not begun.complete
    with pytest.raises(DataError, match="not complete"):
        begun.float_layers(count=1)
    steps = Interrupting(-1)
    _measure(begun, meter, images[:2], KIND, part, steps)
    assert -steps.left - 1 < len(meter.units), "what was measured is not measured again"
    assert read_map(part).complete and [u.error for u in begun.units] == [u.error for u in whole.units]


def test_map_names_the_layers_a_scheme_leaves_in_float(toy, images, tmp_path) -> None:
    rows = [
        UnitRow(name=n, level="layer", kind="qkv", error=[e, e], abs_rel=[e, e])
        for n, e in (("blocks.0.qkv", 1e-6), ("blocks.1.fc1", 0.2), ("output_conv1", 0.01))
    ]
    value = SensitivityMap(key="k", complete=True, facts={}, units=rows)
    write_map(value, tmp_path / "map.json")
    value = read_map(tmp_path / "map.json")
    program = export_program(toy(), torch.zeros(1, *SIZE, 3, dtype=torch.uint8)).module(check_guards=False)
    every = set(LinearConvQuantizer(float_layers=()).selected(program))
    kept = set(LinearConvQuantizer(float_layers=value.float_layers(limit=0.005)).selected(program))
    assert every - kept == {"net.blocks.1.fc1", "net.output_conv1"}
    kept = set(LinearConvQuantizer(float_layers=value.float_layers(count=1)).selected(program))
    assert every - kept == {"net.blocks.1.fc1"}


def test_kinds_of_the_real_nets_layers() -> None:
    names = {
        "pretrained.patch_embed.proj": "patch_embed",
        "pretrained.blocks.11.attn.proj": "proj",
        "pretrained.blocks.3.attn.qkv": "qkv",
        "depth_head.projects.2": "projects",
        "depth_head.scratch.refinenet1.out_conv": "conv",
        "depth_head.scratch.output_conv2.0": "output_conv",
    }
    assert {n: kind_of(n) for n in names} == names


def test_plot_is_one_svg_file(tmp_path) -> None:
    path = tmp_path / "map.svg"
    layers = [("a.qkv", "qkv", 1e-3), ("b.fc1", "fc1", float("inf")), ("c", "conv", 0.0)]
    write_sensitivity_plot(path, layers, [("qkv", "qkv", 1e-2), ("softmax", "softmax", 0.5)], "tiny at 28x42")
    assert ET.parse(path).getroot().tag.endswith("svg")


def test_damaged_map_is_told_by_name(tmp_path) -> None:
    (tmp_path / "map.json").write_text("{}")
    with pytest.raises(DataError, match=r"map\.json: not a sensitivity map"):
        read_map(tmp_path / "map.json")
    with pytest.raises(DataError, match="no sensitivity map"):
        read_map(tmp_path / "none.json")
