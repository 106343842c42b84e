"""What a batch holds: every sample once an epoch, target moved with the picture, nothing depends on history."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datk.config.train_sections import AugmentSection
from datk.data.sample import min_max
from datk.errors import DataError
from datk.train.augment import augment
from datk.train.samples import Batches, sample_index
from datk.train.sources import read_depth
from tests.unit.train.toys import ToySource, toy_batches

STRONG = AugmentSection(min_crop=0.5, max_stretch=1.3, colour=0.5, blur=1.0, grey=0.2, noise=0.05)


def test_every_sample_is_seen_once_an_epoch_in_a_new_order() -> None:
    epochs = [[sample_index(epoch * 10 + i, 10, 7) for i in range(10)] for epoch in range(3)]
    assert all(sorted(order) == list(range(10)) for order in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_batch_is_a_function_of_step_and_seed_alone() -> None:
    first, again = toy_batches(), toy_batches()
    again(0)
    again(5)
    assert torch.equal(first(3).image, again(3).image) and torch.equal(first(3).target, again(3).target)
    assert not torch.equal(toy_batches(seed=1)(3).image, first(3).image)


def test_the_target_follows_crop_and_mirror() -> None:
    ramp = np.tile(np.linspace(0, 1, 60, dtype=np.float32), (40, 1))
    image = np.repeat((ramp * 255).astype(np.uint8)[..., None], 3, axis=2)
    small = ramp[::2, ::2].copy()  # a label of half the picture's size
    valid = np.ones(small.shape, np.bool_)
    section = AugmentSection(min_crop=0.4, max_stretch=1.2)
    directions = set()
    for seed in range(12):
        out = augment(image, small, valid, (14, 28), section, np.random.default_rng(seed))
        assert np.abs(out.image[..., 0] - out.disparity).max() < 0.08, "picture and target must show the same view"
        directions.add(bool(out.disparity[0, -1] > out.disparity[0, 0]))
    assert directions == {True, False}, "some are mirrored, some are not"


def test_colour_changes_leave_the_clean_picture_and_the_target_alone() -> None:
    sample = ToySource().load(3)
    args = sample.image, sample.disparity, sample.valid, (28, 28)
    out = augment(*args, STRONG, np.random.default_rng(0))
    plain = augment(*args, STRONG.model_copy(update={"colour": 0.0, "blur": 0.0, "grey": 0.0, "noise": 0.0}),
                    np.random.default_rng(0))  # fmt: skip
    assert np.array_equal(out.clean, plain.image) and np.array_equal(out.disparity, plain.disparity)
    assert np.abs(out.image - out.clean).max() > 0.02
    assert out.image.min() >= 0 and out.image.max() <= 1


def test_without_augmentation_the_picture_is_only_resized() -> None:
    sample = ToySource().load(1)
    section = AugmentSection(flip=False)
    out = augment(sample.image, sample.disparity, sample.valid, (28, 32), section, np.random.default_rng(0))
    assert np.allclose(out.image, sample.image / 255.0, atol=1e-6)


def test_clean_pictures_are_kept_for_the_feature_reference() -> None:
    batches = Batches(ToySource(), input_size=(14, 14), augment=STRONG, batch_size=2, seed=0, keep_clean=True)
    batch = batches(0)
    assert not torch.equal(batch.image, batch.clean)
    assert toy_batches()(0).clean.shape == (4, 3, 14, 14)


def test_min_max_spans_the_valid_pixels_only() -> None:
    values = np.array([[1.0, 3.0, 100.0]])
    valid = np.array([[True, True, False]])
    assert min_max(values, valid).tolist() == [[0.0, 1.0, 0.0]]
    assert not min_max(values, np.zeros_like(valid)).any()
    assert not min_max(np.full((2, 2), 5.0), np.ones((2, 2), np.bool_)).any()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY cut", b"nonsense"])
def test_a_damaged_depth_map_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "000003.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"000003\.npy: not a readable depth map"):
        read_depth(path)


def test_a_pickled_array_is_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "bad.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not a readable"):
        read_depth(path)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_processes_share_a_step_without_doubling_or_losing_an_image(ranks: int) -> None:
    batches = toy_batches()
    whole = batches(5)
    shares = [batches(5, rank, ranks) for rank in range(ranks)]
    places = {position: (share, row) for share in shares for row, position in enumerate(share.positions)}
    assert sorted(places) == list(whole.positions)
    for row, position in enumerate(whole.positions):
        share, other = places[position]
        assert torch.equal(share.image[other], whole.image[row]) and share.samples[other] == whole.samples[row]


def test_a_batch_is_cut_into_parts_that_are_the_batch() -> None:
    whole = toy_batches()(2)
    parts = list(whole.split(3))
    assert [len(part.image) for part in parts] == [3, 1]
    assert torch.equal(torch.cat([part.target for part in parts]), whole.target)
    assert sum(part.counted for part in parts) == whole.counted == 4
    assert tuple(p for part in parts for p in part.positions) == whole.positions
    assert parts[0].clean is parts[0].image, "no second copy where nothing was recoloured"
