"""Logs and validation pictures: whole rows only, nothing doubled, nothing held out is trained on."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datk.config.train_sections import AugmentSection
from datk.errors import DataError
from datk.train.fit_and_save import training_set
from datk.train.held_out import Without, hold_out
from datk.train.loop import fit
from datk.train.pictures import GAP
from datk.train.trace import CsvLog, read_log
from tests.unit.train import micro
from tests.unit.train.test_loop import SCHEDULE
from tests.unit.train.toys import ToyNet, ToySource, toy_batches, toy_step


@pytest.mark.parametrize("torn", ["4,0.1", "4", "4,0.123", ""])
def test_a_line_cut_by_a_kill_and_rows_after_the_state_are_dropped(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "loss.csv"
    path.write_text(f"step,loss\r\n1,3.0\r\n2,2.0\r\n3,1.0\r\n{torn}")
    log = CsvLog(path, done=2)
    log.add({"step": 3, "loss": 0.5})
    log.flush()
    assert list(read_log(path)) == [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 3, "loss": 0.5}]
    assert log.mean_of_last(2) == pytest.approx(1.25)


def test_seconds_stand_in_a_file_of_their_own(tmp_path: Path) -> None:
    fit(ToyNet(), toy_step(ToyNet()), toy_batches(), SCHEDULE, tmp_path, fingerprint="x", stop_after=3)
    rows = list(read_log(tmp_path / "timing.csv"))
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(r["images_per_s"] == pytest.approx(4 / (r["step_s"] + r["wait_s"]), rel=0.01) for r in rows)


def test_tensorboard_gets_every_step_once(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    section = SCHEDULE.model_copy(update={"tensorboard": True})
    for stop in (5, 12):
        net = ToyNet()
        fit(net, toy_step(net), toy_batches(), section, tmp_path, fingerprint="x", stop_after=stop)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [e.step for e in events.Scalars("train/loss")] == list(range(1, 13))
    assert {"time/step_s", "train/grad_norm", "train/lr_factor"} <= set(events.Tags()["scalars"])
    logged = [row["loss"] for row in read_log(tmp_path / "loss.csv")]
    assert [e.value for e in events.Scalars("train/loss")] == pytest.approx(logged)


def test_held_out_samples_are_never_trained_on() -> None:
    section = SCHEDULE.model_copy(update={"pictures_every": 4, "held_out": 3})
    data = training_set(ToySource(), section, input_size=(28, 28), augment=AugmentSection(), seed=0)
    trained = {data.number(sample) for step in range(20) for sample in data.batches(step).samples}
    kept = {0, 3, 6}
    assert trained == set(range(10)) - kept and data.images == 7
    assert data.held_out is not None and data.held_out.batch.image.shape == (3, 3, 28, 28)
    plain = training_set(ToySource(), SCHEDULE, input_size=(28, 28), augment=AugmentSection(), seed=0)
    assert plain.images == 10 and plain.held_out is None
    with pytest.raises(DataError, match="10 samples: 6 cannot be held out"):
        hold_out(ToySource(), 6)


@given(count=st.integers(2, 60), held=st.integers(1, 30))
def test_numbers_skip_what_is_held_out_and_nothing_else(count: int, held: int) -> None:
    held = min(held, count // 2)
    rest, kept = hold_out(ToySource(count), held)
    assert isinstance(rest, Without) and len(set(kept.numbers)) == held
    assert sorted([rest.number(index) for index in range(len(rest))] + list(kept.numbers)) == list(range(count))


def test_pictures_show_image_target_and_prediction_and_their_loss_is_logged(tmp_path: Path) -> None:
    section = SCHEDULE.model_copy(update={"pictures_every": 5, "held_out": 2})
    data = training_set(micro.MaskedSource(), section, input_size=(28, 28), augment=AugmentSection(), seed=0)
    net, pictured = ToyNet(), ToyNet()
    fit(net, toy_step(net), data.batches, section, tmp_path / "plain", fingerprint="x")
    step = toy_step(pictured)
    fit(pictured, step, data.batches, section, tmp_path / "a", fingerprint="x", held_out=data.held_out)
    assert sorted(p.name for p in (tmp_path / "a/pictures").iterdir()) == [
        f"step-{step:08d}.jpg" for step in (5, 10, 12)
    ]
    sheet = cv2.imread(str(tmp_path / "a/pictures/step-00000012.jpg"))
    assert sheet.shape == (2 * (28 + 2 * GAP), 3 * (28 + 2 * GAP), 3)
    assert data.held_out is not None and not data.held_out.batch.valid.all()
    with (tmp_path / "a/held_out.csv").open() as handle:
        assert [row["step"] for row in csv.DictReader(handle)] == ["5", "10", "12"]
    for one, other in zip(net.parameters(), pictured.parameters(), strict=True):
        assert np.array_equal(one.detach().numpy(), other.detach().numpy()), "looking must not change the training"
