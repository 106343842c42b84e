"""Every data set is read as what its authors wrote: metres along the axis, sky at infinity, unknown as unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datk.data.adapters import available
from datk.data.dataset import open_dataset
from tests.unit.data.layouts import WRITERS


@pytest.mark.parametrize("name", list(WRITERS))
def test_depth_is_read_in_metres_with_sky_and_unknown_where_they_are(name: str, tmp_path: Path) -> None:
    written = WRITERS[name]
    truth = written.write(tmp_path)
    dataset = open_dataset(name, tmp_path)
    assert [dataset.key(i) for i in range(len(dataset))] == sorted(truth)
    for i in range(len(dataset)):
        sample = dataset.read(i)
        z = truth[dataset.key(i)]
        found = sample.depth_m if written.unit == "m" else sample.depth_unscaled
        assert found is not None and found.dtype == np.float32
        assert sample.image.shape == (*z.shape, 3)
        np.testing.assert_array_equal(sample.sky, np.isposinf(z))
        np.testing.assert_array_equal(sample.valid, z > 0)
        solid = np.isfinite(z)
        np.testing.assert_allclose(found[solid], z[solid], rtol=written.tolerance)
        assert sample.licence and sample.scene


@pytest.mark.parametrize("name", list(WRITERS))
def test_the_target_is_inverse_depth_of_the_scene_with_sky_at_zero(name: str, tmp_path: Path) -> None:
    truth = WRITERS[name].write(tmp_path)
    dataset = open_dataset(name, tmp_path)
    target, valid = dataset.read(0).target()
    z = truth[dataset.key(0)]
    inverse = np.where(np.isposinf(z), 0.0, 1 / np.where(z > 0, z, 1))
    low, high = inverse[valid].min(), inverse[valid].max()
    np.testing.assert_allclose(target[valid], ((inverse - low) / (high - low))[valid], atol=2e-5)
    assert not target[~valid].any()
    assert not target[np.isposinf(z)].any()


def test_every_adapter_has_a_writer_that_holds_it_to_its_format() -> None:
    assert set(available()) - {"synthetic"} == set(WRITERS)
