"""Post-training quantisation: NNCF on the exported program, with the target's own scheme."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule

from datk.depth.io_spec import Size
from datk.measure.heap import give_freed_memory_back
from datk.quantize.calibration import check_calibration, drawn_order, input_tensor, record_of
from datk.quantize.finite import check_finite, check_scales
from datk.quantize.names import name_weights
from datk.quantize.outliers import split_outliers
from datk.quantize.smooth import fold_smooth_scales
from datk.quantize.symmetric import make_activations_symmetric
from datk.targets.base import InputForm
from datk.targets.chatter import sdk_chatter_off
from datk.targets.pt2e import QuantScheme, layer_names

Progress = Callable[[int, int], None]


def quantize_module(
    module: nn.Module,
    calibration: Sequence[NDArray[np.uint8]],
    scheme: QuantScheme,
    *,
    input_form: InputForm,
    input_size: Size,
    seed: int,
    max_images: int = 300,
    min_images: int = 1,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> GraphModule:
    """Quantise a float deployment module to int8 with NNCF; the module itself is left as it was.

    module: eval-mode deployment module taking input_form. calibration: bucket images (h, w, 3) uint8
    RGB of input_size; at most max_images of them, drawn by seed, are used, one at a time (statistics
    over a batch axis are wrong for a transformer). names: of the images, for messages. progress(done, total) counts
    images over all passes.
    Returns a program with standard `quantized_decomposed` ops that takes and gives what module does; its int8 weights
    keep the names of the float ones, and its meta[RECORD] (datk.quantize.calibration) says what it was calibrated on.
    Raises DataError when the calibration set cannot be used or has fewer than min_images, and when a layer puts out NaN
    or infinity on it, naming layer and image.
    """
    check_calibration(calibration, input_size, min_images=min_images, names=names)
    order = drawn_order(len(calibration), count=max_images, seed=seed)
    images = [calibration[i] for i in order]
    program = export_program(module, input_tensor(images[0], input_form)).module(check_guards=False)
    assert isinstance(program, GraphModule)
    check_finite(program, {order[0]: images[0]}, input_form, names)
    layers = layer_names(program)
    if scheme.quantizer.quantize_outputs:
        split_outliers(program, scheme.quantizer, images, input_form=input_form)
    passes = _Passes(images, input_form, passes=2 if scheme.smooth_quant else 1, progress=progress)
    torch.manual_seed(seed)

    def look_for_infinity() -> None:
        again = export_program(module, input_tensor(images[0], input_form)).module()
        check_finite(again, dict(zip(order, images, strict=True)), input_form, names)

    try:
        quantized = _nncf(program, passes, scheme, count=len(images))
    except RuntimeError:
        look_for_infinity()  # a histogram has no range over infinity, and torch ends there
        raise
    name_weights(quantized, layers)
    if not check_scales(quantized):
        look_for_infinity()
        raise AssertionError("NNCF gave a scale that is no finite positive number on finite activations")
    if scheme.smooth_quant:
        fold_smooth_scales(quantized)
    if scheme.quantizer.symmetric_activations:
        make_activations_symmetric(quantized)
    passes.finish()
    quantized.meta.update(record_of(images))
    return quantized


def export_program(module: nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    """torch.export with static shapes, quietly. example: one input of the deployment module."""
    with sdk_chatter_off(), torch.no_grad():
        return torch.export.export(module, (example,))


def _nncf(program: GraphModule, passes: _Passes, scheme: QuantScheme, *, count: int) -> GraphModule:
    """NNCF's algorithms as the scheme sets them, in place of `program`'s float layers."""
    with sdk_chatter_off(), torch.no_grad(), _overflow_fix(scheme.halved_weights):
        import nncf
        from nncf.experimental.torch.fx import quantize_pt2e
        from nncf.quantization.advanced_parameters import AdvancedSmoothQuantParameters

        quantized = quantize_pt2e(
            program,
            scheme.quantizer,
            nncf.Dataset(passes),
            subset_size=count,
            fast_bias_correction={"off": None, "fast": True, "full": False}[scheme.bias_correction],
            smooth_quant=scheme.smooth_quant,
            smooth_quant_params=AdvancedSmoothQuantParameters(matmul=scheme.smooth_quant_alpha, convolution=-1.0),
            activations_range_estimator_params=_range_estimator(scheme.ranges),
            fold_quantize=scheme.fold_quantize,
        )
    assert isinstance(quantized, GraphModule)
    return quantized


@contextmanager
def _overflow_fix(halved: Literal["none", "first", "all"]) -> Iterator[None]:
    """Let NNCF halve the range of these weights.

    It does of the first convolutions by default, nncf.quantize has a setting for it, and quantize_pt2e none: hence the
    default is what is set.
    """
    from nncf.quantization.advanced_parameters import OverflowFix
    from nncf.quantization.algorithms.min_max.algorithm import MODE_BASED_DEFAULTS

    defaults = MODE_BASED_DEFAULTS[None]
    before = defaults.overflow_fix
    defaults.overflow_fix = {
        "none": OverflowFix.DISABLE,
        "first": OverflowFix.FIRST_LAYER,
        "all": OverflowFix.ENABLE,
    }[halved]
    try:
        yield
    finally:
        defaults.overflow_fix = before


def _range_estimator(name: str) -> Any:
    """NNCF's parameters for QuantScheme.ranges; None leaves the choice to NNCF."""
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet as Known

    return {
        "default": None,
        "minmax": Known.MINMAX,
        "mean": Known.MEAN_MINMAX,
        "quantile": Known.MEAN_QUANTILE,
        "histogram": Known.HISTOGRAM,
    }[name]


class _Passes:
    """The calibration images as NNCF iterates them, several times over, with progress."""

    def __init__(
        self, images: list[NDArray[np.uint8]], input_form: InputForm, *, passes: int, progress: Progress | None
    ) -> None:
        self._images = images
        self._form = input_form
        self._total = passes * len(images)
        self._done = 0
        self._progress = progress

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[torch.Tensor]:
        for image in self._images:
            give_freed_memory_back()
            yield input_tensor(image, self._form)
            self._done = min(self._done + 1, self._total - 1)
            if self._progress is not None:
                self._progress(self._done, self._total)

    def finish(self) -> None:
        if self._progress is not None:
            self._progress(self._total, self._total)
