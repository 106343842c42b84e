"""A loss that is not finite: the step, the samples, the batch itself and the weights before it are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datk.config.train_sections import AugmentSection
from datk.errors import CheckpointError
from datk.train.incident import read_incident
from datk.train.loop import TrainingError, fit
from datk.train.objective import depth_loss
from datk.train.replay import replay
from datk.train.samples import Batches, TrainingSample
from datk.train.start import fresh_net
from tests.unit.train import micro
from tests.unit.train.toys import ToySource

# The planted value is met by the min-max of a view: what it warns of is what the training then stops at.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")


class PoisonedSource(ToySource):
    """Sample 7's target is infinite at one valid pixel, behind the reader (which takes such a depth as unknown)."""

    def load(self, index: int) -> TrainingSample:
        sample = super().load(index)
        if index == 7:
            sample.disparity[5, 5] = np.inf
        return sample


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingError, dict[str, torch.Tensor]]:
    """A training of the tiny net that meets sample 7, in micro-batches of one."""
    folder = tmp_path_factory.mktemp("broken")
    net = fresh_net("tiny", seed=0)
    batches = Batches(PoisonedSource(), input_size=(28, 28), augment=AugmentSection(), batch_size=2, seed=0)

    def step(batch, done):  # type: ignore[no-untyped-def]
        raw, _ = net.forward_train(batch.image)
        return depth_loss(raw, net.activate(raw), batch.target, batch.valid, micro.LOSS, done)

    section = micro.SCHEDULE.model_copy(update={"steps": 5, "batch_size": 2, "micro_batch": 1, "ema_decay": None})
    record = {"size": "tiny", "loss": micro.LOSS.model_dump(mode="json")}
    with pytest.raises(TrainingError) as caught:
        fit(net, step, batches, section, folder, fingerprint="x", sample_name="photo-{}.jpg".format, facts=record)
    return folder, caught.value, {name: value.clone() for name, value in net.state_dict().items()}


def test_the_message_names_step_losses_and_images(broken: tuple[Path, TrainingError, object]) -> None:
    folder, error, _ = broken
    (kept,) = folder.glob("non-finite-step-*")
    assert f"step {int(kept.name[-8:])}: the loss is nan" in error.message
    assert error.message.endswith("images: photo-7.jpg"), "the micro-batch at fault alone"
    assert f"datk train replay {kept}" in (error.hint or "")


def test_the_kept_batch_is_the_one_that_broke_with_the_weights_before_the_step(
    broken: tuple[Path, TrainingError, dict[str, torch.Tensor]],
) -> None:
    folder, _, state = broken
    (kept,) = folder.glob("non-finite-step-*")
    weights, ((batch, record),) = read_incident(kept)
    assert all(torch.equal(weights[name], value) for name, value in state.items())
    step = record["step"]
    again = Batches(PoisonedSource(), input_size=(28, 28), augment=AugmentSection(), batch_size=2, seed=0)(step)
    place = again.samples.index(7)
    assert batch.samples == (7,) and batch.positions == (again.positions[place],)
    assert torch.equal(batch.image[0], again.image[place])
    assert torch.equal(batch.target[0], again.target[place]) or bool(torch.isnan(batch.target[0]).any())


def test_replaying_says_where_the_first_bad_number_is(broken: tuple[Path, TrainingError, object]) -> None:
    (kept,) = broken[0].glob("non-finite-step-*")
    (found,) = replay(kept)
    assert found.name == "photo-7.jpg" and not np.isfinite(found.loss)
    assert found.source == "target" and found.valid_fraction == 1.0


def test_replaying_names_the_module_that_overflows(tmp_path: Path) -> None:
    net = fresh_net("tiny", seed=0)
    with torch.no_grad():
        net.pretrained.blocks[3].mlp.fc2.weight.mul_(1e30)
        net.pretrained.blocks[3].mlp.fc1.weight.mul_(1e30)
    batches = Batches(ToySource(), input_size=(28, 28), augment=AugmentSection(), batch_size=2, seed=0)

    def step(batch, done):  # type: ignore[no-untyped-def]
        raw, _ = net.forward_train(batch.image)
        return depth_loss(raw, net.activate(raw), batch.target, batch.valid, micro.LOSS, done)

    record = {"size": "tiny", "loss": micro.LOSS.model_dump(mode="json")}
    section = micro.SCHEDULE.model_copy(update={"steps": 5, "batch_size": 2, "ema_decay": None})
    with pytest.raises(TrainingError, match="step 0: the loss is nan"):
        fit(net, step, batches, section, tmp_path, fingerprint="x", facts=record)
    assert {image.source for image in replay(tmp_path / "non-finite-step-00000000")} == {"pretrained.blocks.3.mlp.fc2"}


def test_a_folder_that_is_no_kept_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no kept batch"):
        replay(tmp_path)
