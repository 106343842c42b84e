"""The teacher on rendered images: what it aims at, that it learns, resumes, and survives its final ReLU."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from datk.config.train_sections import AugmentSection, LossSection, ScheduleSection, TeacherSection
from datk.data.synthetic import SyntheticItem, generate, load
from datk.errors import CheckpointError, DataError
from datk.models.weights import load_checkpoint, save_checkpoint
from datk.train.objective import lift_above_relu
from datk.train.sources import SyntheticSource
from datk.train.start import fresh_net, net_from_checkpoint, weights_digest
from datk.train.teacher import train_teacher

SECTION = TeacherSection(
    size="tiny",
    input_size=(28, 28),
    loss=LossSection(output="raw", gradient_weight=0.5, gradient_ramp=0.5, scale_floor=1e-2, anchor_weight=0.5),
    schedule=ScheduleSection(
        steps=3, batch_size=2, optimiser="adamw", encoder_lr=5e-4, decoder_lr=5e-4, device="cpu", precision="fp32"
    ),
    augment=AugmentSection(min_crop=0.8, colour=0.2),
)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    generate(folder, count=6, size=(42, 56), seed=3, workers=1)
    return folder


def test_the_target_is_inverse_depth_from_0_to_1_with_sky_at_0_and_valid(tmp_path: Path) -> None:
    depth = np.full((14, 14), 2.0, np.float32)
    depth[0], depth[1], depth[2, 0] = np.inf, 4.0, np.nan
    np.save(tmp_path / "d.npy", depth)
    import cv2

    cv2.imwrite(str(tmp_path / "i.png"), np.zeros((14, 14, 3), np.uint8))
    sample = SyntheticSource([SyntheticItem(tmp_path / "i.png", tmp_path / "d.npy", "test")]).load(0)
    assert sample.disparity[0, 0] == 0 and sample.valid[0, 0], "sky is farthest and counts"
    assert sample.disparity[1, 0] == pytest.approx(0.5) and sample.disparity[5, 5] == 1.0
    assert not sample.valid[2, 0]


def test_a_depth_map_without_any_known_pixel_is_refused(tmp_path: Path, rendered: Path) -> None:
    np.save(tmp_path / "empty.npy", np.zeros((42, 56), np.float32))
    source = SyntheticSource([SyntheticItem(load(rendered)[0].image_path, tmp_path / "empty.npy", "test")])
    with pytest.raises(DataError, match=r"empty\.npy: no pixel with a known depth"):
        source.load(0)


def test_teacher_resume_equals_uninterrupted_run(rendered: Path, tmp_path: Path) -> None:
    whole = train_teacher(SECTION, rendered, tmp_path / "whole", seed=0)
    train_teacher(SECTION, rendered, tmp_path / "halves", seed=0, stop_after=1)
    halves = train_teacher(SECTION, rendered, tmp_path / "halves", seed=0)
    one, other = (weights_digest(load_checkpoint(result.weights).net) for result in (whole, halves))
    assert one == other
    lift = whole.facts["bias_lift"]
    assert whole.facts == {"images": 6, "unreadable": 0, "started_from": "scratch", "bias_lift": lift}
    assert load_checkpoint(whole.weights).metadata["training_data"] == "synthetic"


def test_another_seed_gives_another_teacher_and_the_same_seed_the_same() -> None:
    assert weights_digest(fresh_net("tiny", seed=4)) == weights_digest(fresh_net("tiny", seed=4))
    assert weights_digest(fresh_net("tiny", seed=4)) != weights_digest(fresh_net("tiny", seed=5))


def test_a_net_that_sank_below_the_relu_is_lifted_without_changing_its_map() -> None:
    net = fresh_net("tiny", seed=0)
    last = net.depth_head.scratch.output_conv2[2]
    with torch.no_grad():
        last.bias.sub_(5.0)
    image = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = net.forward_train(image)[0]
        assert float(net(image).max()) == 0.0, "dead behind the ReLU"
    lift = lift_above_relu(net, [image])
    with torch.inference_mode():
        after, deployed = net.forward_train(image)[0], net(image)
    assert lift > 0 and torch.allclose(after - lift, before, atol=1e-5)
    assert float((deployed == 0).float().mean()) <= 2e-3
    assert lift_above_relu(net, [image]) == 0.0, "nothing left to lift"


def test_a_checkpoint_of_another_size_is_refused_and_an_encoder_gets_a_fresh_head(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    tiny = fresh_net("tiny", seed=7)
    save_checkpoint(tiny, path, metadata={})
    with pytest.raises(CheckpointError, match="holds a tiny net, the recipe asks for small"):
        net_from_checkpoint(path, "small", seed=0)
    assert weights_digest(net_from_checkpoint(path, "tiny", seed=0)[0]) == weights_digest(tiny)
    encoder = tmp_path / "encoder.pth"
    torch.save(tiny.pretrained.state_dict(), encoder)
    net, words = net_from_checkpoint(encoder, "tiny", seed=0)
    assert weights_digest(net.pretrained) == weights_digest(tiny.pretrained) and "head random" in words


def test_the_teacher_refuses_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no index\.json"):
        train_teacher(SECTION, tmp_path, tmp_path / "out", seed=0)


def test_a_file_that_rots_is_listed_counted_and_replaced_and_the_resumed_run_agrees(
    rendered: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(rendered, data)
    bad = Path(load(data)[2].depth_path)
    assert bad.is_relative_to(data)
    bad.write_bytes(b"rotten")
    section = SECTION.model_copy(update={"schedule": SECTION.schedule.model_copy(update={"steps": 6})})
    whole = train_teacher(section, data, tmp_path / "whole", seed=0)
    train_teacher(section, data, tmp_path / "halves", seed=0, stop_after=4)
    halves = train_teacher(section, data, tmp_path / "halves", seed=0)
    assert whole.facts["unreadable"] == 1
    (line,) = (tmp_path / "whole/quarantine.jsonl").read_text().splitlines()
    assert str(load(data)[2].image_path) in line and bad.name in line
    assert whole.weights_sha256 == halves.weights_sha256
