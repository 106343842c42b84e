"""Training on data sets: the right target, mixtures by share, bad files replaced, batches still pure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datk.config.train_sections import AugmentSection
from datk.data.dataset import open_dataset
from datk.data.quarantine import Quarantine
from datk.errors import DataError, UsageError
from datk.train.data_sources import DatasetSource, MixedSource, quarantining
from datk.train.samples import Batches, TrainingSample
from tests.unit.data.layouts import WRITERS

SIZE = (28, 42)


def written(root: Path, name: str) -> Path:
    WRITERS[name].write(root / name)
    return root / name


def test_sky_is_learnt_as_farthest_and_unknown_is_not_learnt(tmp_path: Path) -> None:
    dataset = open_dataset("vkitti2", written(tmp_path, "vkitti2"))
    sample = DatasetSource(dataset).load(0)
    sky = dataset.read(0).sky
    assert sky.any() and sample.valid[sky].all() and not sample.disparity[sky].any()
    assert sample.disparity.max() == 1.0 and sample.disparity.dtype == np.float32


def test_five_per_cent_of_noisy_labels_are_five_per_cent_of_every_thousand_positions(tmp_path: Path) -> None:
    parts = [(n, DatasetSource(open_dataset(n, written(tmp_path, n)))) for n in ("hrwsi", "hypersim")]
    mixed = MixedSource(parts, weights=(0.05, 0.95), seed=1)
    names = [mixed.part_of(mixed.at(p)) for p in range(3000)]
    assert [names[i : i + 1000].count("hrwsi") for i in (0, 1000, 2000)] == [50, 50, 50]
    with pytest.raises(UsageError, match="same name"):
        MixedSource([parts[0], parts[0]])


def test_batches_of_a_mixture_with_a_bad_file_are_the_same_in_a_resumed_run(tmp_path: Path) -> None:
    datasets = {n: open_dataset(n, written(tmp_path, n)) for n in ("vkitti2", "irs", "tartanair")}
    datasets["irs"].items[0].depth.write_bytes(b"no exr")

    def batches(listing: str) -> Batches:
        quarantine = Quarantine(tmp_path / listing, limit=5)
        mixed = MixedSource([(n, quarantining(d, quarantine)) for n, d in datasets.items()], seed=2)
        return Batches(mixed, input_size=SIZE, augment=AugmentSection(), batch_size=4, seed=2, order=mixed.at)

    first = batches("q.jsonl")
    whole = [first(step) for step in range(6)]
    assert [b.samples for b in whole[:2]] == [tuple(first.source.at(p) for p in range(s, s + 4)) for s in (0, 4)]
    resumed = batches("q.jsonl")
    for step in (5, 3, 4):
        again = resumed(step)
        assert torch.equal(again.image, whole[step].image) and torch.equal(again.target, whole[step].target)
    assert len((tmp_path / "q.jsonl").read_text().splitlines()) == 1
    ranks = [resumed(3, rank=r, ranks=2).image for r in range(2)]
    assert torch.equal(ranks[0][1], whole[3].image[2]) and torch.equal(ranks[1][0], whole[3].image[1])


def test_without_quarantine_a_bad_file_ends_the_run_by_name(tmp_path: Path) -> None:
    dataset = open_dataset("irs", written(tmp_path, "irs"))
    dataset.items[0].depth.write_bytes(b"no exr")
    with pytest.raises(DataError, match=r"d_00001\.exr"):
        DatasetSource(dataset).load(0)


def test_a_part_with_several_teachers_draws_inside_a_mixture_too(tmp_path: Path) -> None:
    class Drawing(DatasetSource):
        def load_drawn(self, index: int, rng: np.random.Generator) -> TrainingSample:
            sample = self.load(index)
            return TrainingSample(sample.image, sample.disparity * float(rng.random()), sample.valid)

    dataset = open_dataset("irs", written(tmp_path, "irs"))
    mixed = MixedSource([("plain", DatasetSource(dataset)), ("drawn", Drawing(dataset))])
    rng = np.random.default_rng(0)
    assert mixed.load_drawn(0, rng).disparity.max() == 1.0
    assert mixed.load_drawn(2, rng).disparity.max() == np.float32(np.random.default_rng(0).random())
