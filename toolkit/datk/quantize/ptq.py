"""Post-training quantisation: NNCF on the exported program, with the target's own scheme."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule

from datk.depth.io_spec import Size
from datk.quantize.calibration import check_calibration, choose, input_tensor
from datk.quantize.smooth import fold_smooth_scales
from datk.quantize.symmetric import make_activations_symmetric
from datk.targets.base import InputForm
from datk.targets.chatter import sdk_chatter_off
from datk.targets.pt2e import QuantScheme

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
    progress: Progress | None = None,
) -> GraphModule:
    """Quantise a float deployment module to int8 with NNCF; the module itself is left as it was.

    module: eval-mode deployment module taking input_form. calibration: bucket images (h, w, 3) uint8
    RGB of input_size; at most max_images of them, drawn by seed, are used, one at a time (statistics
    over a batch axis are wrong for a transformer). progress(done, total) counts images over all passes.
    Returns a program with standard `quantized_decomposed` ops that takes and gives what module does.
    Raises DataError when the calibration set cannot be used.
    """
    check_calibration(calibration, input_size)
    images = choose(calibration, count=max_images, seed=seed)
    program = export_program(module, input_tensor(images[0], input_form)).module(check_guards=False)
    passes = _Passes(images, input_form, passes=2 if scheme.smooth_quant else 1, progress=progress)
    torch.manual_seed(seed)
    with sdk_chatter_off(), torch.no_grad():
        import nncf
        from nncf.experimental.torch.fx import quantize_pt2e
        from nncf.quantization.advanced_parameters import AdvancedSmoothQuantParameters

        quantized = quantize_pt2e(
            program,
            scheme.quantizer,
            nncf.Dataset(passes),
            subset_size=len(images),
            fast_bias_correction=True if scheme.fast_bias_correction else None,
            smooth_quant=scheme.smooth_quant,
            smooth_quant_params=AdvancedSmoothQuantParameters(matmul=scheme.smooth_quant_alpha, convolution=-1.0),
            fold_quantize=scheme.fold_quantize,
        )
    assert isinstance(quantized, GraphModule)
    if scheme.smooth_quant:
        fold_smooth_scales(quantized)
    if scheme.quantizer.symmetric_activations:
        make_activations_symmetric(quantized)
    passes.finish()
    return quantized


def export_program(module: nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    """torch.export with static shapes, quietly. example: one input of the deployment module."""
    with sdk_chatter_off(), torch.no_grad():
        return torch.export.export(module, (example,))


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
            yield input_tensor(image, self._form)
            self._done = min(self._done + 1, self._total - 1)
            if self._progress is not None:
                self._progress(self._done, self._total)

    def finish(self) -> None:
        if self._progress is not None:
            self._progress(self._total, self._total)
