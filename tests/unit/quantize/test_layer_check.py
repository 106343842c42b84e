"""A quantised program whose layer computes something else than the float layer is caught, and the layer named."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch

from datk.quantize.layer_check import check_layers
from datk.quantize.ptq import quantize_module
from datk.targets.pt2e import LinearConvQuantizer, QuantScheme, layer_name, weighted_nodes

SIZE = (28, 42)


@pytest.fixture(scope="module")
def program(toy, images):
    chosen = QuantScheme(quantizer=LinearConvQuantizer(), fold_quantize=True, smooth_quant=True, ranges="minmax")
    return quantize_module(toy(), images, chosen, input_form="nhwc_uint8", input_size=SIZE, seed=0)


def check(program, toy, images):
    return check_layers(program, toy(), images, input_form="nhwc_uint8")


def test_sound_program_passes_and_tells_its_worst_layer(program, toy, images):
    found = check(program, toy, images)
    assert found["status"] == "passed", found["detail"]
    assert found["worst_layer"].startswith("net.") and found["worst_r"] > 0.98


@pytest.mark.parametrize("layer", ["net.blocks.0.fc1", "net.blocks.1.qkv", "net.output_conv1"])
@pytest.mark.parametrize("part", ["weight", "input"])
def test_scale_off_by_two_is_named(program, toy, images, layer, part):
    wrong = copy.deepcopy(program)
    (node,) = [n for n in weighted_nodes(wrong) if layer_name(n) == layer]
    if part == "weight":
        scales = node.args[1].args[1]
        value = getattr(wrong, str(scales.target))
        setattr(wrong, str(scales.target), value * 2)
    else:
        dequantize = node.args[0]
        dequantize.args = (dequantize.args[0], dequantize.args[1] * 2, *dequantize.args[2:])
    wrong.recompile()
    found = check(wrong, toy, images)
    assert found["status"] == "failed"
    assert re.match(rf"first of them: {re.escape(layer)} answers (2|2\.1|1\.9) times the float layer", found["detail"])


def test_ranges_of_something_else_than_photographs_are_named(toy, images):
    """Calibrated on images with a tenth of the contrast, on photographs most of the first layers' input is cut off."""
    flat = [(128 + (i.astype(float) - 128) / 10).astype(np.uint8) for i in images]
    chosen = QuantScheme(quantizer=LinearConvQuantizer(), fold_quantize=True, smooth_quant=False)
    program = quantize_module(toy(), flat, chosen, input_form="nhwc_uint8", input_size=SIZE, seed=0)
    found = check(program, toy, [np.clip(i.astype(int) * 2 - 128, 0, 255).astype(np.uint8) for i in images])
    assert found["status"] == "failed" and "beyond its range" in " ".join(found["wrong"])


def test_without_photographs_it_is_not_measured(program, toy):
    assert check_layers(program, toy(), [], input_form="nhwc_uint8")["status"] == "not_measured"
    assert torch.is_grad_enabled()
