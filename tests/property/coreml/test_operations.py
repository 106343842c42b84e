"""Every operation of the Core ML evaluator, on any shapes and values, is what torch makes of it.

fp16 as documented (reference/registry.py): fp32 inside an operation, one rounding at its declared result. Of two half
numbers, torch's own half arithmetic gives the same elementwise results to the bit; sums may end one fp16 step from the
same sum in float64. What moves values, moves them unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("coremltools", reason="coremltools is not installed")

from datk.targets.coreml.reference.evaluator import OPERATION_FILES, _settled
from datk.targets.coreml.reference.program import Operation, TensorType
from datk.targets.coreml.reference.registry import KERNELS

assert OPERATION_FILES
STEP = 2.0**-10
"""Of fp16, relative."""
Property = Callable[[st.DataObject, str], None]
COVERED: dict[str, Property] = {}


def covers(*names: str) -> Callable[[Property], Property]:
    """The decorated property is that of these operations."""

    def keep(check: Property) -> Property:
        COVERED.update(dict.fromkeys(names, check))
        return check

    return keep


def call(kind: str, rounded_to: str = "float16", **inputs: Any) -> Any:
    """As the evaluator does one step: the kernel, then rounding to the declared type."""
    result = KERNELS[kind].function(**inputs)
    parts = result if isinstance(result, tuple) else (result,)
    moves = KERNELS[kind].moves_only
    settled = []
    for part in parts:
        declared = TensorType(rounded_to, tuple(part.shape))
        operation = Operation(type=kind, inputs={}, bound=frozenset(), outputs={"out": declared})
        settled.append(_settled(operation, declared, part, moves_only=moves))
    return tuple(settled) if isinstance(result, tuple) else settled[0]


def halves(data: st.DataObject, shape: tuple[int, ...], scale: float = 4.0) -> Tensor:
    """float32 that holds half numbers, a few of them zero, tiny or large."""
    seed = data.draw(st.integers(0, 2**32 - 1))
    values = np.random.default_rng(seed).normal(0, scale, shape).astype(np.float16)
    if values.size and data.draw(st.booleans()):
        values.flat[0] = data.draw(st.sampled_from([0.0, 6e-8, -6e-8, 1e-4, 60000.0, -60000.0]))
    return torch.from_numpy(values.astype(np.float32))


def shapes(least: int = 1, most: int = 4, side: int = 5) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(1, side), min_size=least, max_size=most).map(tuple)


def same(found: Tensor, expected: Tensor) -> None:
    """Equal to the bit, infinities included."""
    assert torch.equal(found.nan_to_num(), expected.nan_to_num()), (found, expected)


def one_step(found: Tensor, expected: Tensor, size: Tensor | float = 0.0) -> None:
    """Within one fp16 step of a float64 result; size: of the terms that were summed, where they cancel."""
    exact = expected.double()
    assert torch.equal(found, found.half().float())
    fits = exact.abs() < 65504
    allowed = STEP * exact.abs() + 2.0**-24 + 1e-6 * size
    assert ((found.double() - exact).abs() <= allowed)[fits].all(), (found, expected)


@covers("add", "sub", "mul", "real_div")
def arithmetic(data: st.DataObject, name: str) -> None:
    shape = data.draw(shapes())
    other = tuple(data.draw(st.sampled_from([1, n])) for n in shape)  # broadcast
    x, y = halves(data, shape), halves(data, other)
    function = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "real_div": torch.div}[name]
    same(call(name, x=x, y=y), function(x.half(), y.half()).float())


@covers("relu", "sigmoid", "silu", "gelu")
def activation(data: st.DataObject, name: str) -> None:
    x = halves(data, data.draw(shapes()))
    function = {"relu": torch.relu, "sigmoid": torch.sigmoid, "silu": F.silu, "gelu": F.gelu}[name]
    one_step(call(name, x=x), function(x.double()), size=1.0)


@covers("clip")
def clip(data: st.DataObject, name: str) -> None:
    x = halves(data, data.draw(shapes()))
    low, high = sorted(data.draw(st.tuples(st.sampled_from([-2.0, -0.5, 0.0]), st.sampled_from([0.25, 1.0, 6.0]))))
    same(call(name, x=x, alpha=torch.tensor(low), beta=torch.tensor(high)), x.clamp(low, high))


@covers("cast")
def cast(data: st.DataObject, name: str) -> None:
    x = torch.from_numpy(np.random.default_rng(data.draw(st.integers(0, 99))).normal(0, 50, (3, 4)).astype(np.float32))
    same(call(name, x=x, dtype="fp16"), x.half().float())
    same(call(name, "float32", x=x, dtype="fp32"), x)
    assert torch.equal(call(name, "int32", x=x, dtype="int32"), x.int())


@covers("linear")
def linear(data: st.DataObject, name: str) -> None:
    c_in, c_out = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 5))
    x, weight = halves(data, (*data.draw(shapes(most=3)), c_in), 1.0), halves(data, (c_out, c_in), 1.0)
    bias = halves(data, (c_out,), 1.0) if data.draw(st.booleans()) else None
    expected = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    one_step(call(name, x=x, weight=weight, bias=bias), expected, F.linear(x.abs(), weight.abs()) + 1)


@covers("matmul")
def matmul(data: st.DataObject, name: str) -> None:
    batch, (m, k, n) = data.draw(shapes(0, 2, 3)), data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    tx, ty = data.draw(st.booleans()), data.draw(st.booleans())
    x, y = halves(data, (*batch, m, k), 1.0), halves(data, (*batch, k, n), 1.0)
    stored = {"x": x.transpose(-1, -2) if tx else x, "y": y.transpose(-1, -2) if ty else y}
    found = call(name, **stored, transpose_x=tx, transpose_y=ty)
    one_step(found, torch.matmul(x.double(), y.double()), torch.matmul(x.abs(), y.abs()))


@covers("conv", "conv_transpose")
def convolution(data: st.DataObject, name: str) -> None:
    groups, inner, outer = (data.draw(st.integers(1, 2)) for _ in range(3))
    c_in, c_out = groups * inner, groups * outer
    kernel, strides = data.draw(st.tuples(*[st.integers(1, 3)] * 2)), data.draw(st.tuples(*[st.integers(1, 2)] * 2))
    pad = tuple(data.draw(st.integers(0, (k - 1) // 2)) for k in kernel)
    dilations = data.draw(st.tuples(*[st.integers(1, 2)] * 2)) if name == "conv" else (1, 1)
    x = halves(data, (1, c_in, 7, 6), 1.0)
    weight = halves(data, (c_out, inner, *kernel) if name == "conv" else (c_in, outer, *kernel), 1.0)
    sides = {"pad_type": "custom", "pad": (pad[0], pad[0], pad[1], pad[1])} if any(pad) else {"pad_type": "valid"}
    found = call(name, x=x, weight=weight, strides=strides, dilations=dilations, groups=groups, **sides)

    def torchs(a: Tensor, w: Tensor) -> Tensor:
        if name == "conv":
            return F.conv2d(a, w, None, strides, pad, dilations, groups)
        return F.conv_transpose2d(a, w, None, strides, pad, 0, groups)

    one_step(found, torchs(x.double(), weight.double()), torchs(x.abs(), weight.abs()))


@covers("layer_norm")
def layer_norm(data: st.DataObject, name: str) -> None:
    """Over any axes, against mean and variance written out in float64."""
    shape = data.draw(shapes(2, 4))
    axes = sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    x, inside = halves(data, shape, 1.0), tuple(shape[a] for a in axes)
    gamma, beta = halves(data, inside, 1.0), halves(data, inside, 1.0)
    wide = [shape[a] if a in axes else 1 for a in range(len(shape))]
    exact = x.double()
    centred = exact - exact.mean(axes, keepdim=True)
    normed = centred / (centred.square().mean(axes, keepdim=True) + 1e-3).sqrt()
    expected = normed * gamma.double().reshape(wide) + beta.double().reshape(wide)
    found = call(name, x=x, axes=tuple(axes), gamma=gamma, beta=beta, epsilon=torch.tensor(1e-3))
    one_step(found, expected, size=1e3 * (normed * gamma.reshape(wide)).abs().max() + 1)


@covers("batch_norm")
def batch_norm(data: st.DataObject, name: str) -> None:
    x, channels = halves(data, (1, 3, 4, 5), 1.0), 3
    mean, gamma, beta = (halves(data, (channels,), 1.0) for _ in range(3))
    variance = halves(data, (channels,), 1.0).abs() + 0.5
    found = call(name, x=x, mean=mean, variance=variance, gamma=gamma, beta=beta, epsilon=torch.tensor(1e-3))
    expected = F.batch_norm(*(t.double() for t in (x, mean, variance, gamma, beta)), eps=1e-3)
    one_step(found, expected, size=float((x.abs().max() + mean.abs().max()) * gamma.abs().max() * 2) + 1)


@covers("softmax")
def softmax(data: st.DataObject, name: str) -> None:
    shape = data.draw(shapes())
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = halves(data, shape)
    one_step(call(name, x=x, axis=axis), torch.softmax(x.double(), axis), size=1.0)


@covers("reshape", "transpose", "squeeze", "expand_dims", "split", "concat", "slice_by_index")
def move(data: st.DataObject, name: str) -> None:
    shape = data.draw(shapes(2, 4))
    x, rank = halves(data, shape), len(shape)
    array, axis = x.numpy(), data.draw(st.integers(-rank, rank - 1))
    if name == "reshape":
        same(call(name, x=x, shape=(prod(shape[:-1]), -1)), torch.from_numpy(array.reshape(prod(shape[:-1]), -1)))
    elif name == "transpose":
        perm = tuple(data.draw(st.permutations(range(rank))))
        same(call(name, x=x, perm=perm), torch.from_numpy(array.transpose(perm)))
    elif name == "squeeze":
        thin = array[None]
        same(call(name, x=torch.from_numpy(thin), axes=(0,)), x)
    elif name == "expand_dims":
        same(call(name, x=x, axes=(axis,)), torch.from_numpy(np.expand_dims(array, axis)))
    elif name == "split":
        first = data.draw(st.integers(0, shape[axis]))
        sizes = (first, shape[axis] - first)
        found = call(name, x=x, axis=axis, split_sizes=sizes)
        for part, expected in zip(found, np.split(array, [first], axis), strict=True):
            same(part, torch.from_numpy(expected))
    elif name == "concat":
        found = call(name, values=(x, x * 2), axis=axis)
        same(found, torch.from_numpy(np.concatenate([array, array * 2], axis)))
    else:
        begin = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
        end = tuple(data.draw(st.integers(b + 1, n)) for b, n in zip(begin, shape, strict=True))
        stride = data.draw(st.tuples(*[st.integers(1, 3)] * rank))
        drop = tuple(data.draw(st.booleans()) for _ in shape)
        index = tuple(b if d else slice(b, e, s) for b, e, s, d in zip(begin, end, stride, drop, strict=True))
        found = call(name, x=x, begin=begin, end=end, stride=stride, squeeze_mask=drop)
        same(found, torch.from_numpy(np.asarray(array[index])))


@covers("upsample_bilinear")
def upsample(data: st.DataObject, name: str) -> None:
    """Against the two formulas of ops_resize.py, written out in float64."""
    size, factor = data.draw(st.tuples(*[st.integers(1, 6)] * 2)), data.draw(st.tuples(*[st.integers(1, 3)] * 2))
    aligned = data.draw(st.booleans())
    x = halves(data, (1, 2, *size), 1.0)
    expected = x.double()
    for axis in (2, 3):
        n_in = size[axis - 2]
        n_out = n_in * factor[axis - 2]
        i = torch.arange(n_out, dtype=torch.float64)
        place = i * ((n_in - 1) / max(1, n_out - 1)) if aligned else ((i + 0.5) * n_in / n_out - 0.5).clamp(0, n_in - 1)
        left = place.floor().long().clamp(max=n_in - 1)
        right = (left + 1).clamp(max=n_in - 1)
        part = (place - left).reshape([-1 if a == axis else 1 for a in range(4)])
        expected = expected.index_select(axis, left) * (1 - part) + expected.index_select(axis, right) * part
    scales = {
        "scale_factor_height": torch.tensor(float(factor[0])),
        "scale_factor_width": torch.tensor(float(factor[1])),
    }
    one_step(call(name, x=x, **scales, align_corners=aligned), expected, size=10 * float(x.abs().max()))


@covers("quantize", "dequantize", "constexpr_affine_dequantize", "constexpr_blockwise_shift_scale")
def integers(data: st.DataObject, name: str) -> None:
    """Against the formulas of ops_quantize.py, which are those of PT2E's quantised programs, in float64."""
    scales = data.draw(st.lists(st.sampled_from([2.0**-8, 2.0**-5, 0.5]), min_size=3, max_size=3))
    zeros = data.draw(st.lists(st.integers(-20, 20), min_size=3, max_size=3))
    x = halves(data, (3, 5))
    step, zero = np.array(scales)[:, None], np.array(zeros)[:, None]
    stored = np.clip(np.rint(x.double().numpy() / step) + zero, -128, 127)
    parameters = {"scale": torch.tensor(scales), "zero_point": torch.tensor(zeros)}
    values = torch.from_numpy(stored.astype(np.int8))
    if name == "quantize":
        found = call(name, "int8", input=x, output_dtype="int8", **parameters, axis=0)
        assert found.dtype == torch.int8 and torch.equal(found, values)
        return
    if name == "dequantize":
        found = call(name, input=values, **parameters, axis=0)
    elif name == "constexpr_affine_dequantize":
        found = call(name, quantized_data=values, **parameters, axis=0)
    else:
        found = call(name, data=values, scale=torch.tensor(step), offset=torch.tensor(zero))
    same(found, torch.from_numpy((stored - zero) * step).half().float())


@covers("constexpr_lut_to_dense")
def table(data: st.DataObject, name: str) -> None:
    """Indices packed here bit by bit, from the least significant on."""
    bits, shape = data.draw(st.sampled_from([1, 2, 4, 6, 8])), data.draw(shapes())
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    lut, places = random.normal(size=2**bits).astype(np.float16), random.integers(0, 2**bits, prod(shape))
    flat = [(int(place) >> bit) & 1 for place in places for bit in range(bits)]
    packed = [sum(bit << i for i, bit in enumerate(flat[at : at + 8])) for at in range(0, len(flat), 8)]
    found = call(name, indices=torch.tensor(packed, dtype=torch.uint8), lut=torch.from_numpy(lut).float(), shape=shape)
    same(found, torch.from_numpy(lut.astype(np.float32)[places].reshape(shape)))


@pytest.mark.parametrize("name", sorted(KERNELS))
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_operation_is_torchs(name: str, data: st.DataObject) -> None:
    assert name in COVERED, f"{name} is in the evaluator and has no property here"
    COVERED[name](data, name)


def test_nothing_is_held_to_a_property_that_the_evaluator_lacks() -> None:
    assert set(COVERED) == set(KERNELS)
