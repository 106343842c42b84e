"""Figures over depth maps: against NumPy on all pixels at once."""

from __future__ import annotations

import numpy as np
import pytest

from datk.data.sample import Sample
from datk.data.statistics import PERCENTILES, RESOLUTION, MapStatistics
from datk.errors import DataError


def sample(values: np.ndarray, quantity: str = "depth_m") -> Sample:
    return Sample(name="x", image=np.zeros((*values.shape, 3), np.uint8), **{quantity: values.astype(np.float32)})


def test_figures_are_those_of_all_known_pixels_together() -> None:
    rng = np.random.default_rng(0)
    maps = [np.exp(rng.normal(i, 1, (40, 50))) for i in range(3)]
    maps[0][:4] = np.inf
    maps[1][:, :5] = np.nan
    statistics = MapStatistics()
    for values in maps:
        statistics.add(sample(values))
    known = np.concatenate([m[np.isfinite(m)] for m in maps]).astype(np.float32)
    found = statistics.summary()
    assert found["min"] == known.min() and found["max"] == known.max()
    for percent in PERCENTILES:
        wanted = np.percentile(known, percent)
        assert found[f"p{percent}"] == pytest.approx(wanted, rel=2 * RESOLUTION)
    assert found["sky_fraction"] == pytest.approx(200 / 6000)
    assert found["unknown_fraction"] == pytest.approx(200 / 6000)
    assert (found["quantity"], found["unit"], found["samples"]) == ("depth_m", "m", 3)


def test_a_map_without_a_known_pixel_has_no_figures_and_raises_nothing() -> None:
    statistics = MapStatistics()
    statistics.add(sample(np.full((3, 4), np.nan)))
    found = statistics.summary()
    assert found["unknown_fraction"] == 1.0 and found["min"] is None and found["p50"] is None


def test_different_quantities_are_not_added_up() -> None:
    statistics = MapStatistics()
    statistics.add(sample(np.ones((3, 4))))
    with pytest.raises(DataError, match="holds disparity_px, those before hold depth_m"):
        statistics.add(sample(np.ones((3, 4)), "disparity_px"))
