"""What the rounding costs is what is stated, and damage is named."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datk.errors import DataError
from datk.train.labelling.encoding import decode, encode, error_bound


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(1e-6, 1e6),
    shift=st.floats(-1e3, 1e3),
    form=st.sampled_from(["png16", "png12"]),
)
def test_a_map_comes_back_within_its_stated_error(seed: int, scale: float, shift: float, form: str) -> None:
    disparity = (np.random.default_rng(seed).random((9, 13)) * scale + shift * scale).astype(np.float32)
    encoded = encode(disparity, form)
    found = decode(encoded.data, form, where="test") * (encoded.high - encoded.low) + encoded.low
    span = encoded.high - encoded.low
    assert encoded.error_rel <= error_bound(form) * (1 + 1e-9)
    rounding = 1e-6 * max(abs(encoded.low), abs(encoded.high))
    assert np.abs(found - disparity).max() <= span * (encoded.error_rel + 2e-7) + rounding


def test_a_constant_map_is_zeros_without_scale() -> None:
    encoded = encode(np.full((3, 4), 7.5, np.float32), "png16")
    assert encoded.low == encoded.high == 7.5 and not decode(encoded.data, "png16", where="x").any()


@pytest.mark.parametrize("data", [b"", b"nonsense", cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes()])
def test_what_is_no_16_bit_label_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(DataError, match="shard 7, image 3: not a 16-bit grey pseudo-label"):
        decode(data, "png16", where="shard 7, image 3")
