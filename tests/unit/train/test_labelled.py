"""Labelled sets in training: shares kept, bad files replaced, metres where metres are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datk.config.data_section import SetSection
from datk.config.train_sections import AugmentSection, ScheduleSection
from datk.data.labelled_sets import mix, open_sets, weights_from_shares
from datk.data.sample import Sample
from datk.errors import UsageError
from datk.train.fit_and_save import training_set
from datk.train.labelled import LabelledSets, MetricTarget
from tests.unit.data.layouts import WRITERS


def sets(folder: Path, *, share: float | None) -> LabelledSets:
    for name in ("hypersim", "vkitti2"):
        WRITERS[name].write(folder / name)
    sections = (SetSection(name="hypersim", root=folder / "hypersim"),)
    sections += (SetSection(name="vkitti2", root=folder / "vkitti2", share=share),)
    return LabelledSets(mix(open_sets(sections), sections, seed=0), folder)


def test_a_share_is_kept_in_the_batches_themselves(tmp_path: Path) -> None:
    source = sets(tmp_path, share=0.05)
    data = training_set(source, ScheduleSection(batch_size=1000), input_size=(14, 14), augment=AugmentSection(), seed=0)
    names = [source.key(data.batches.order(position)) for position in range(1000)]  # type: ignore[union-attr]
    assert sum(name.startswith("vkitti2/") for name in names) == 50


def test_without_shares_every_image_is_seen_once_an_epoch(tmp_path: Path) -> None:
    source = sets(tmp_path, share=None)
    assert sorted(source.at(position) for position in range(5)) == [0, 1, 2, 3, 4]


def test_sets_without_a_share_divide_the_rest_by_size() -> None:
    assert weights_from_shares([None, 0.2, None], [30, 5, 10]) == pytest.approx([0.6, 0.2, 0.2])
    assert weights_from_shares([None, None], [1, 2]) is None


def test_a_bad_file_is_replaced_and_listed(tmp_path: Path) -> None:
    source = sets(tmp_path, share=None)
    bad = next((tmp_path / "vkitti2").rglob("depth_00000.png"))
    good = [i for i in range(len(source)) if "hypersim" in source.key(i)]
    bad.write_bytes(b"not a picture")
    for index in range(len(source)):
        source.load(index)
    assert len(source.quarantine) == 1 and len(good) == 3
    assert "vkitti2/" in next(iter(source.quarantine.entries()))


def test_metric_targets_are_metres_within_bounds_and_sky_is_none() -> None:
    depth = np.array([[2.0, 0.0005, 25.0], [np.inf, np.nan, 0.0]], np.float32)
    sample = Sample(name="x", image=np.zeros((2, 3, 3), np.uint8), depth_m=depth)
    target = MetricTarget(0.001, 20.0)(sample)
    assert target.valid.tolist() == [[True, False, False], [False, False, False]]
    assert 1 / target.disparity[0, 0] == pytest.approx(2.0)
    relative = Sample(name="x", image=np.zeros((2, 3, 3), np.uint8), depth_unscaled=depth)
    with pytest.raises(UsageError, match="does not give depth in metres"):
        MetricTarget(0.001, 20.0)(relative)


def test_metric_targets_reach_the_batch_as_they_are(tmp_path: Path) -> None:
    source = sets(tmp_path, share=None)
    source.target = MetricTarget(0.001, 80.0)
    options = {"input_size": (28, 28), "augment": AugmentSection(flip=False), "seed": 0}
    batch = training_set(source, ScheduleSection(batch_size=5), normalise=False, **options).batches(0)
    metres = 1 / batch.target[batch.valid]
    assert 1.9 < float(metres.min()) < 3 and 8 < float(metres.max()) < 11
