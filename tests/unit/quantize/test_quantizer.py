"""The PT2E quantizer picks linears and convolutions, and nothing that must stay in float."""

from __future__ import annotations

import torch
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from datk.quantize.calibration import input_tensor
from datk.quantize.ptq import export_program
from datk.targets.pt2e import LinearConvQuantizer

ENCODER = [f"net.blocks.{i}.{name}" for i in range(2) for name in ("qkv", "proj", "fc1", "fc2")]


def exported(toy, images):
    return export_program(toy(), input_tensor(images[0], "nhwc_uint8")).module(check_guards=False)


def test_patch_embedding_and_last_head_convolutions_stay_float(toy, images):
    assert LinearConvQuantizer().selected(exported(toy, images)) == [*ENCODER, "net.output_conv1"]


def test_only_linears_and_convolutions_are_annotated(toy, images):
    model = LinearConvQuantizer(quantize_outputs=False).annotate(exported(toy, images))
    annotated = {str(n.target) for n in model.graph.nodes if Q_ANNOTATION_KEY in n.meta}
    assert annotated == {"aten.linear.default", "aten.conv2d.default"}


def test_kinds_can_be_left_out(toy, images):
    model = exported(toy, images)
    assert LinearConvQuantizer(convs=False).selected(model) == ENCODER
    assert LinearConvQuantizer(linears=False).selected(model) == ["net.output_conv1"]
    assert LinearConvQuantizer(float_layers=(r"blocks\.0\.", "conv|patch")).selected(model) == ENCODER[4:]


def test_layer_called_as_a_function_is_known_by_its_weight():
    class Functional(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.patch_embed = torch.nn.Module()
            self.patch_embed.proj = torch.nn.Linear(4, 4)

        def forward(self, x):
            return torch.nn.functional.linear(x, self.patch_embed.proj.weight)

    model = torch.export.export(Functional(), (torch.zeros(1, 4),)).module()
    assert LinearConvQuantizer().selected(model) == []
    assert LinearConvQuantizer(float_layers=()).selected(model) == ["patch_embed.proj"]


def test_quantised_output_moves_behind_a_fused_relu():
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.ReLU(), torch.nn.Conv2d(1, 1, 1))
    model = torch.export.export(net.eval(), (torch.zeros(1, 1, 2, 2),)).module()
    LinearConvQuantizer(quantize_outputs=True).annotate(model)
    quantised = [n.name for n in model.graph.nodes if getattr(n.meta.get(Q_ANNOTATION_KEY), "output_qspec", None)]
    assert quantised == ["relu", "conv2d_1"]


def test_litert_finds_the_attribute_it_reads():
    assert LinearConvQuantizer().global_config.is_dynamic is False
