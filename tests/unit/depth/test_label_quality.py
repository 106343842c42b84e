"""A label is judged by itself, whatever its unknown scale and shift."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datk.depth.label_quality import label_quality

RAMP = np.linspace(0, 1, 64 * 48, dtype=np.float32).reshape(64, 48)


def test_a_ramp_is_fine() -> None:
    found = label_quality(RAMP)
    assert not found.degenerate and found.reason == ""
    assert found.spread == pytest.approx(0.96, abs=1e-3) and found.saturated_fraction < 0.003


@given(scale=st.floats(1e-3, 1e4), shift=st.floats(0, 100))
def test_scale_and_shift_change_nothing(scale: float, shift: float) -> None:
    one, other = label_quality(RAMP), label_quality(RAMP.astype(np.float64) * scale + min(shift, scale * 10))
    assert other.spread == pytest.approx(one.spread, abs=1e-6)
    assert other.saturated_fraction == pytest.approx(one.saturated_fraction, abs=1e-3)


def test_half_a_sky_is_fine_and_counted() -> None:
    sky = RAMP.copy()
    sky[:32] = 0
    found = label_quality(sky)
    assert not found.degenerate and 0.5 <= found.saturated_fraction < 0.51


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: np.full_like(m, 3.0), "constant at 3"),
        (lambda m: np.zeros_like(m), "constant at 0"),
        (lambda m: 1000 + m * 1e-3, "constant"),
        (lambda m: np.where(np.arange(m.size).reshape(m.shape) == 7, 1e3, m), "within"),
        (lambda m: (m > 0.5).astype(np.float32), "end of the range"),
        (lambda m: np.where(m > 0.999, np.nan, m), "not finite"),
        (lambda m: np.where(m > 0.999, np.inf, m), "not finite"),
    ],
)
def test_maps_that_teach_nothing_are_named(change, reason: str) -> None:
    found = label_quality(change(RAMP).astype(np.float32))
    assert found.degenerate and reason in found.reason


def test_a_stored_16_bit_label_is_judged_alike() -> None:
    stored = np.round(RAMP * 65535).astype(np.uint16)
    assert label_quality(stored).spread == pytest.approx(label_quality(RAMP).spread, abs=1e-4)


def test_another_shape_is_a_bug() -> None:
    with pytest.raises(ValueError, match="H, W"):
        label_quality(np.zeros((1, 4, 4)))
