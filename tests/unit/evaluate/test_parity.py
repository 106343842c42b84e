"""An artifact against its reference, photograph by photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from datk.data.photos import builtin_photos
from datk.depth.io_spec import DepthKind
from datk.errors import DataError, UsageError
from datk.evaluate.cached_runner import CachedRunner
from datk.evaluate.parity import Parity, compare, compare_input_paths, compare_maps
from datk.evaluate.torch_runner import TorchRunner

from .conftest import ToyRunner, red

PHOTOS = builtin_photos("validation")[:4]
REFERENCE = ToyRunner(red, name="float net")
DISPARITY = DepthKind.DISPARITY_AFFINE_INVARIANT


def test_a_net_equals_itself() -> None:
    steps: list[tuple[int, int]] = []
    parity = compare(REFERENCE, REFERENCE, PHOTOS, progress=lambda d, t: steps.append((d, t)))
    assert parity.n == 4 and steps[-1] == (4, 4)
    assert parity.median_correlation == pytest.approx(1.0)
    assert parity.max_error_rel == 0.0
    assert parity.mean_abs_rel == pytest.approx(0.0, abs=1e-9) and parity.mean_delta1 == 1.0
    assert parity.mean_ordinal == 1.0


def test_scale_and_shift_leave_correlation_and_abs_rel_but_show_as_error() -> None:
    parity = compare(ToyRunner(lambda i: 2 * red(i) + 10), REFERENCE, PHOTOS)
    assert parity.median_correlation == pytest.approx(1.0)
    assert parity.mean_abs_rel == pytest.approx(0.0, abs=1e-6)
    assert parity.max_error_rel is not None and parity.max_error_rel > 1


def test_a_flipped_sign_is_a_negative_correlation() -> None:
    parity = compare(ToyRunner(lambda i: 255 - red(i)), REFERENCE, PHOTOS)
    assert parity.median_correlation == pytest.approx(-1.0)
    assert parity.mean_abs_rel is not None and parity.mean_abs_rel > 0.2
    assert parity.mean_ordinal == 0.0


def test_noise_lowers_the_correlation_and_the_worst_image_is_named() -> None:
    rng = np.random.default_rng(0)
    parity = compare(ToyRunner(lambda i: red(i) + rng.normal(0, 20, i.shape[:2])), REFERENCE, PHOTOS)
    assert parity.worst is not None and parity.worst.correlation is not None
    assert parity.worst.correlation <= (parity.median_correlation or 0) < 1
    assert parity.summary()["worst_image"] == parity.worst.name


def test_a_constant_output_is_undefined_with_a_reason() -> None:
    parity = compare(ToyRunner(lambda i: np.full(i.shape[:2], 5.0)), REFERENCE, PHOTOS)
    assert parity.median_correlation is None and parity.worst is None and parity.mean_delta1 is None
    assert {i.undefined for i in parity.undefined} == {"the output is constant"}


def test_nan_in_one_pixel_is_undefined_not_averaged_away() -> None:
    good = np.random.default_rng(0).random((5, 5)).astype(np.float32)
    bad = good.copy()
    bad[2, 2] = np.nan
    parity = compare_maps(bad, good, name="x", kind=DISPARITY)
    assert parity.correlation is None and parity.max_error_rel is None
    assert parity.undefined == "the output holds nan or infinity"


def test_other_buckets_are_compared_at_the_photographs_size() -> None:
    parity = compare(ToyRunner(red, input_size=(56, 84)), REFERENCE, PHOTOS)
    assert parity.compared_at == "photo"
    assert parity.median_correlation is not None and 0.8 < parity.median_correlation < 1


def test_both_nets_see_the_same_8_bit_image() -> None:
    seen: list[bytes] = []

    def spy(image: np.ndarray) -> np.ndarray:
        seen.append(image.tobytes())
        return red(image)

    compare(ToyRunner(spy), ToyRunner(spy), PHOTOS[:1])
    assert len(seen) == 2 and seen[0] == seen[1]


def test_relative_and_metric_are_not_comparable() -> None:
    with pytest.raises(UsageError, match="returns depth_metric_m"):
        compare(ToyRunner(red, kind=DepthKind.DEPTH_METRIC_M), REFERENCE, PHOTOS)


def test_no_photographs_is_an_error() -> None:
    with pytest.raises(DataError, match="no photographs"):
        compare(REFERENCE, REFERENCE, [])


def test_plain_paths_are_accepted_and_parity_survives_json() -> None:
    paths: list[Path] = [p.path for p in PHOTOS[:2]]
    parity = compare(REFERENCE, REFERENCE, paths)
    assert Parity.model_validate_json(parity.model_dump_json()) == parity


def test_the_8_bit_input_costs_little_and_is_told() -> None:
    class Red(nn.Module):
        depth_kind = DISPARITY

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 0]

    parity = compare_input_paths(TorchRunner(Red(), (56, 56), name="net"), PHOTOS)
    assert parity.candidate == "net, 8-bit input" and parity.n == 4
    assert parity.median_correlation is not None and 0.9999 < parity.median_correlation <= 1
    assert parity.max_error_rel is not None and 0 < parity.max_error_rel < 0.2


def test_a_cached_reference_is_computed_once_a_photograph() -> None:
    calls: list[int] = []

    def counted(image: np.ndarray) -> np.ndarray:
        calls.append(1)
        return red(image)

    cached = CachedRunner(ToyRunner(counted, name="float net"))
    first = compare(ToyRunner(lambda i: red(i) ** 2), cached, PHOTOS)
    second = compare(ToyRunner(lambda i: red(i) ** 2), cached, PHOTOS)
    assert first == second and len(calls) == len(PHOTOS)
    assert first == compare(ToyRunner(lambda i: red(i) ** 2), REFERENCE, PHOTOS)
    cached.close()
    compare(REFERENCE, cached, PHOTOS[:1])
    assert len(calls) == len(PHOTOS) + 1
