"""NNCF on the exported program: accuracy, zero points, determinism, errors, silence."""

from __future__ import annotations

import errno
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datk.errors import CheckpointError, DataError
from datk.quantize.calibration import RECORD, check_calibration, choose, colour_map, input_tensor
from datk.quantize.naive import naive_scheme
from datk.quantize.program import load_program, save_program
from datk.quantize.ptq import export_program, quantize_module
from datk.quantize.smooth import fold_smooth_scales
from datk.quantize.symmetric import activation_zero_points, make_activations_symmetric, symmetric_scale
from datk.targets.pt2e import LinearConvQuantizer, QuantScheme, layer_names

SIZE = (28, 42)


def scheme(*, smooth=False, bias="fast", ranges="default", fold=True, **options):
    return QuantScheme(
        quantizer=LinearConvQuantizer(**options),
        fold_quantize=fold,
        smooth_quant=smooth,
        bias_correction=bias,
        ranges=ranges,
    )


def quantise(toy, images, chosen, *, form="nhwc_uint8", seed=0, **kw):
    return quantize_module(toy(form), images, chosen, input_form=form, input_size=SIZE, seed=seed, **kw)


def correlation(a, b):
    return float(np.corrcoef(a.numpy().ravel(), b.numpy().ravel())[0, 1])


@pytest.mark.parametrize(
    "chosen",
    [
        scheme(),
        scheme(symmetric_activations=True),
        scheme(unsigned_activations=True, smooth=True),
        scheme(quantize_outputs=True, fold=False, bias="off"),
        scheme(per_channel_weights=False),
        scheme(transposed_convs=True),
        scheme(bias="full", smooth=True),
        scheme(ranges="minmax"),
        scheme(ranges="histogram"),
    ],
    ids=[
        *("plain", "symmetric", "unsigned-smooth", "outputs-unfolded", "per-tensor", "transposed"),
        *("full-bias", "minmax", "histogram"),
    ],
)
def test_int8_program_follows_the_float_net(toy, images, chosen):
    x = input_tensor(images[0], "nhwc_uint8")
    assert correlation(quantise(toy, images, chosen)(x), toy()(x)) > 0.99


def test_nchw_float_form_is_quantised_too(toy, images):
    x = input_tensor(images[0], "nchw_float")
    assert x.shape == (1, 3, *SIZE) and x.dtype == torch.float32
    quantised = quantise(toy, images, scheme(), form="nchw_float")
    assert correlation(quantised(x), toy("nchw_float")(x)) > 0.99


def test_weights_are_stored_as_int8_and_as_many_as_selected(toy, images):
    quantised = quantise(toy, images, scheme())
    stored = [b for b in quantised.buffers() if b.dtype == torch.int8 and b.ndim > 1]
    assert len(stored) == 9


def test_int8_weights_keep_the_layers_names(toy, images):
    quantised = quantise(toy, images, scheme())
    names = {name for name, b in quantised.named_buffers() if b.dtype == torch.int8 and b.ndim > 1}
    blocks = {f"net.blocks.{i}.{part}.weight" for i in range(2) for part in ("qkv", "proj", "fc1", "fc2")}
    assert names == {*blocks, "net.output_conv1.weight"}
    assert layer_names(quantised) == layer_names(export_program(toy(), input_tensor(images[0], "nhwc_uint8")).module())


def test_weights_use_the_whole_range_of_int8_unless_the_scheme_halves_it(toy, images):
    def largest(halved):
        stored = dict(quantise(toy, images, replace(scheme(), halved_weights=halved)).named_buffers())
        return [int(stored[f"net.{name}.weight"].abs().max()) for name in ("output_conv1", "blocks.1.fc1")]

    assert min(largest("none")) >= 127
    convolution, linear = largest("first")
    assert convolution <= 64 and linear >= 127
    assert max(largest("all")) <= 64
    assert min(largest("none")) >= 127  # nothing of the one before is left in NNCF


def test_naive_int8_breaks_what_the_scheme_keeps(toy, images):
    """Each fragile kind gets a quantise node of its own; the scheme's own program has none behind them."""
    x = input_tensor(images[0], "nhwc_uint8")
    program, ours = quantise(toy, images, naive_scheme()), quantise(toy, images, scheme())

    def quantised_after(net):
        made = torch.ops.quantized_decomposed.quantize_per_tensor.default
        return {str(n.args[0].target) for n in net.graph.nodes if n.target is made}

    fragile = {"aten.add.Tensor", "aten.softmax.int", "aten.matmul.default"}
    assert fragile | {"aten.layer_norm.default"} <= quantised_after(program)
    assert not fragile & quantised_after(ours)
    assert correlation(program(x), toy()(x)) < correlation(ours(x), toy()(x))


def test_symmetric_scheme_leaves_no_zero_point(toy, images):
    """NNCF itself gives the tensor behind a ReLU an unsigned range; TensorRT rejects that."""
    import datk.quantize.ptq as ptq

    quantised = quantise(toy, images, scheme(symmetric_activations=True))
    assert set(activation_zero_points(quantised)) == {0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ptq, "make_activations_symmetric", lambda program: 0)
        raw = quantise(toy, images, scheme(symmetric_activations=True))
    assert set(activation_zero_points(raw)) == {0, -127}
    x = input_tensor(images[0], "nhwc_uint8")
    before = raw(x)
    assert make_activations_symmetric(raw) == 1
    assert set(activation_zero_points(raw)) == {0}
    assert correlation(raw(x), before) > 0.99


def test_smooth_factors_behind_a_layernorm_are_folded_away_and_nothing_changes(toy, images):
    import datk.quantize.ptq as ptq

    def factors(program):
        return sum("smooth_quant" in n.name for n in program.graph.nodes if n.op == "call_module")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ptq, "fold_smooth_scales", lambda program: 0)
        raw = quantise(toy, images, scheme(smooth=True))
    x = input_tensor(images[0], "nhwc_uint8")
    before, total = raw(x), factors(raw)
    assert fold_smooth_scales(raw) == 4
    assert factors(raw) == total - 4 == 4
    assert correlation(raw(x), before) > 0.9999


@given(st.floats(1e-6, 1e3), st.integers(-128, 127))
def test_symmetric_scale_keeps_every_value_in_range(scale, zero_point):
    new = symmetric_scale(scale, zero_point, -128, 127)
    if zero_point == 0:
        assert new == scale
    else:
        assert new * 127 >= scale * (127 - zero_point) * (1 - 1e-9)
        assert new * 127 >= scale * (zero_point + 128) * (1 - 1e-9)


def test_unsigned_range_gets_exactly_the_doubled_scale():
    assert symmetric_scale(0.5, -127, -127, 127) == 1.0


def test_same_images_and_seed_give_the_same_program(toy, images):
    x = input_tensor(images[0], "nhwc_uint8")
    once, again = (quantise(toy, images, scheme(smooth=True), seed=3)(x) for _ in range(2))
    assert torch.equal(once, again)


def test_float_module_is_left_untouched(toy, images):
    module = toy()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    quantize_module(module, images, scheme(smooth=True), input_form="nhwc_uint8", input_size=SIZE, seed=0)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_program_survives_the_disk_bit_for_bit(toy, images, tmp_path):
    quantised = quantise(toy, images, scheme())
    x = input_tensor(images[0], "nhwc_uint8")
    save_program(quantised, x, tmp_path / "net.pt2")
    assert torch.equal(load_program(tmp_path / "net.pt2")(x), quantised(x))
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt2"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x80\x04pickle"])
def test_a_file_that_is_no_program_is_named(tmp_path, content):
    (tmp_path / "net.pt2").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"net\.pt2"):
        load_program(tmp_path / "net.pt2")


def test_missing_program_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        load_program(tmp_path / "none.pt2")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "empty"),
        ([np.zeros((28, 28, 3), np.uint8)], r"image 0: expected uint8 RGB of shape \(28, 42, 3\)"),
        ([np.zeros((28, 42, 3), np.float32)], "float32"),
        ([np.zeros((28, 42), np.uint8)], r"\(28, 42\)"),
        ([np.full((28, 42, 3), 7, np.uint8)] * 3, "image 0 is one flat colour"),
        ([np.full((28, 42, 3), (9, 60, 7), np.uint8)], "image 0 is one flat colour"),
        ([np.full((28, 42, 3), np.nan, np.float32)], "float32 .* with NaN or infinity"),
        ([np.eye(28, 42, dtype=np.uint8)[..., None].repeat(3, -1) * 2], "double normalisation"),
    ],
)
def test_unusable_calibration_sets_are_refused(bad, message):
    with pytest.raises(DataError, match=message) as caught:
        check_calibration(bad, SIZE)
    assert caught.value.hint


def test_a_refused_image_is_called_by_its_file(images):
    flat = np.full((*SIZE, 3), 7, np.uint8)
    with pytest.raises(DataError, match=r"calibration image 1 \(wall\.jpg\) is one flat colour"):
        check_calibration([images[0], flat], SIZE, names=["a.jpg", "wall.jpg"])


def test_too_few_calibration_images_are_refused_with_both_numbers(images):
    with pytest.raises(DataError, match="6 of at least 8 images"):
        check_calibration(images, SIZE, min_images=8)


class Overflowing(torch.nn.Module):
    """exp(pixel / 2): finite up to 177, infinite for anything brighter. nan: infinity minus infinity there."""

    def __init__(self, *, nan=False):
        super().__init__()
        self.nan = nan
        self.burst = torch.nn.Module()
        self.burst.conv = torch.nn.Conv2d(3, 4, 1)

    def forward(self, image):
        x = (image.permute(0, 3, 1, 2).float() / 2).exp()
        return self.burst.conv(x - 2 * x + x if self.nan else x).relu().sum(1)


@pytest.mark.parametrize(
    ("drawn", "options"),
    [
        (0, {"bias": "off"}),
        (3, {"bias": "off"}),
        (5, {"bias": "full", "smooth": True, "ranges": "histogram"}),
        (5, {"bias": "fast", "quantize_outputs": True, "ranges": "quantile"}),
        (5, {"bias": "off", "ranges": "mean", "smooth": True}),
    ],
)
@pytest.mark.parametrize("nan", [False, True], ids=["infinity", "nan"])
def test_layer_with_an_infinite_range_is_named_with_its_image_and_file(images, drawn, options, nan):
    """Whichever place the photograph has in the drawn order, whatever estimates the ranges: its number in the set."""
    photos = [np.minimum(i, 150) for i in images]
    bright = int(np.random.default_rng(0).permutation(len(photos))[drawn])
    photos[bright] = np.full((*SIZE, 3), 250, np.uint8) - np.arange(42, dtype=np.uint8)[None, :, None]
    names = [f"photo{n}.jpg" for n in range(len(photos))]
    named = rf"calibration image {bright} \(photo{bright}\.jpg\): .* puts out NaN or infinity"
    with pytest.raises(DataError, match=named) as caught:
        quantize_module(
            Overflowing(nan=nan), photos, scheme(float_layers=(), **options), input_form="nhwc_uint8",
            input_size=SIZE, seed=0, names=names,
        )  # fmt: skip
    assert caught.value.hint


def test_archive_keeps_what_the_program_was_calibrated_on(toy, images, tmp_path):
    quantised = quantise(toy, images, scheme(bias="off"))
    save_program(quantised, input_tensor(images[0], "nhwc_uint8"), tmp_path / "net.pt2")
    record = load_program(tmp_path / "net.pt2").meta[RECORD]
    assert record == quantised.meta[RECORD] and len(record) == len(images)
    assert np.allclose(record[0]["colours"], colour_map(choose(images, count=9, seed=0)[0]))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
@pytest.mark.slow
def test_a_disk_that_is_really_full_is_an_os_error_and_leaves_no_archive(tmp_path):
    """ENOSPC from the kernel: the temporary name leads to /dev/full. In a process of its own, seen to its end: torch's
    own file writer ends the interpreter there, later, when it is collected.
    """
    lines = f"""
import gc, os, torch
from pathlib import Path
from datk.quantize.program import save_program
from datk.quantize.ptq import export_program
x = torch.zeros(1, 3, 4, 4)
path = Path({str(tmp_path)!r}) / "net.pt2"
path.with_name(f".net.pt2.{{os.getpid()}}.part.pt2").symlink_to("/dev/full")
try:
    save_program(export_program(torch.nn.Conv2d(3, 4, 1), x).module(), x, path)
except OSError as error:
    print("errno", error.errno)
gc.collect()
"""
    ended = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, f"errno {errno.ENOSPC}\n"), ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_choose_draws_by_seed_without_repetition(images):
    first = choose(images, count=4, seed=1)
    assert len({id(i) for i in first}) == 4
    assert [id(i) for i in first] == [id(i) for i in choose(images, count=4, seed=1)]
    assert len(choose(images, count=99, seed=1)) == len(images)


def test_progress_reaches_its_total_and_nncf_is_silent(toy, images, capfd):
    seen = []
    quantise(toy, images, scheme(smooth=True), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (12, 12)
    assert seen == sorted(seen)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("image", [1, 6, 10])
def test_ctrl_c_while_nncf_calibrates_comes_through_and_leaves_the_net_as_it_was(toy, images, image):
    module = toy()
    x = input_tensor(images[0], "nhwc_uint8")
    before = module(x)

    def interrupt(done, total):
        if done == image:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize_module(
            module, images, scheme(smooth=True, bias="full"), input_form="nhwc_uint8", input_size=SIZE, seed=0,
            progress=interrupt,
        )  # fmt: skip
    assert torch.equal(module(x), before)
