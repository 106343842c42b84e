"""Pseudo-labels and student on the tiny net: what is stored, what is resumed, what the student may see."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open

from datk.config.train_sections import LossSection, PseudoLabelSection, ScheduleSection, StudentSection
from datk.data.sources import open_images
from datk.depth.io_spec import DepthKind
from datk.depth.preprocess import float_input, read_image
from datk.errors import CheckpointError, UsageError
from datk.models.depth_anything import DepthAnything
from datk.models.weights import load_checkpoint
from datk.train.labelling.net_teacher import NetTeacher
from datk.train.labelling.read import open_labels
from datk.train.pseudo_label import label_images
from datk.train.start import copy_of, fresh_net, weights_digest
from datk.train.student import distill

LABELS = PseudoLabelSection(input_size=(28, 42), batch_size=4)
STUDENT = StudentSection(
    size="tiny",
    input_size=(28, 28),
    loss=LossSection(output="raw", top_loss_fraction=0.1, scale_floor=1e-2, anchor_weight=0.5),
    schedule=ScheduleSection(steps=3, batch_size=1, encoder_lr=1e-3, decoder_lr=1e-3, device="cpu", precision="fp32"),
)


@pytest.fixture(scope="module")
def teacher() -> DepthAnything:
    return fresh_net("tiny", seed=5)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(6):
        blocks = rng.integers(0, 255, (6, 9, 3), np.uint8)
        cv2.imwrite(str(folder / f"p{number}.png"), cv2.resize(blocks, (90, 60 + 10 * (number % 2))))
    return sorted(folder.iterdir())


def label_photos(net: DepthAnything, photos: list[Path], out: Path, section: PseudoLabelSection) -> None:
    listing = out.with_suffix(".txt")
    listing.write_text("".join(f"{p}\n" for p in photos))
    teacher = NetTeacher(
        net,
        source="test",
        licence="MIT",
        input_size=section.input_size,
        short_side=section.short_side,
        device="cpu",
        precision="fp32",
    )
    label_images(teacher, open_images(f"list:{listing}"), out, section)


@pytest.fixture(scope="module")
def labels(teacher: DepthAnything, photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("labels")
    label_photos(teacher, photos, out, LABELS)
    return out


def test_the_teachers_map_is_labelled(teacher: DepthAnything, labels: Path, photos: list[Path]) -> None:
    with torch.inference_mode():
        expected = teacher(torch.from_numpy(float_input(read_image(photos[2]), (28, 42))))[0].numpy()
    found = open_labels(labels).label(2)
    assert np.abs(found - (expected - expected.min()) / np.ptp(expected)).max() < 1e-4


def test_flip_average_labels_a_mirrored_photo_with_the_mirrored_map(
    teacher: DepthAnything, photos: list[Path], tmp_path: Path
) -> None:
    mirrored = tmp_path / "mirror.png"
    cv2.imwrite(str(mirrored), np.ascontiguousarray(cv2.imread(str(photos[0]))[:, ::-1]))
    section = LABELS.model_copy(update={"flip_average": True})
    label_photos(teacher, [photos[0], mirrored], tmp_path / "labels", section)
    labels = open_labels(tmp_path / "labels")
    one, other = labels.label(0), labels.label(1)
    assert np.abs(one - other[:, ::-1]).max() < 2e-3


def test_photos_keep_their_aspect_when_no_bucket_is_named(
    teacher: DepthAnything, photos: list[Path], tmp_path: Path
) -> None:
    tall = tmp_path / "tall.png"
    cv2.imwrite(str(tall), np.zeros((90, 60, 3), np.uint8))
    section = PseudoLabelSection(input_size=None, short_side=28, batch_size=4)
    label_photos(teacher, [photos[0], tall, photos[1]], tmp_path / "labels", section)
    labels = open_labels(tmp_path / "labels")
    assert [labels.label(i).shape for i in range(3)] == [(28, 42), (42, 28), (28, 42)], (
        "short side 28, in the order of the list"
    )


def test_a_metric_teachers_depth_becomes_disparity(photos: list[Path], tmp_path: Path) -> None:
    metric = DepthAnything("tiny", depth_kind=DepthKind.DEPTH_METRIC_M, max_depth_m=20.0).eval()
    label_photos(metric, photos[:1], tmp_path, LABELS)
    with torch.inference_mode():
        depth_m = metric(torch.from_numpy(float_input(read_image(photos[0]), (28, 42))))[0].numpy()
    label = open_labels(tmp_path).label(0)
    assert label.flat[np.argmin(depth_m)] == 1.0 and label.flat[np.argmax(depth_m)] == 0.0
    with pytest.raises(UsageError, match="metric depth"):
        copy_of(metric, "tiny")


def test_student_resume_equals_uninterrupted_run(teacher: DepthAnything, labels: Path, tmp_path: Path) -> None:
    whole = distill(STUDENT, labels, teacher, tmp_path / "whole", seed=1)
    distill(STUDENT, labels, teacher, tmp_path / "halves", seed=1, stop_after=2)
    halves = distill(STUDENT, labels, teacher, tmp_path / "halves", seed=1)
    assert halves.fit.resumed_from == 2
    one, other = (weights_digest(load_checkpoint(result.weights).net) for result in (whole, halves))
    assert one == other
    assert whole.facts["feature_source"] == "teacher encoder (tiny)" and whole.facts["started_from"] == "scratch"


def test_the_teacher_stays_as_it_was_and_out_of_the_students_file(
    teacher: DepthAnything, labels: Path, tmp_path: Path
) -> None:
    before = weights_digest(teacher)
    result = distill(STUDENT, labels, teacher, tmp_path, seed=1)
    assert weights_digest(teacher) == before
    with safe_open(result.weights, "pt") as file:
        assert set(file.keys()) == set(DepthAnything("tiny").state_dict())
    net = load_checkpoint(result.weights).net
    with torch.inference_mode():
        assert float(net(torch.zeros(1, 3, 28, 28)).min()) >= 0


def test_another_width_gets_a_bridge_that_is_not_kept(labels: Path, tmp_path: Path) -> None:
    section = STUDENT.model_copy(update={"schedule": STUDENT.schedule.model_copy(update={"steps": 1})})
    result = distill(section, labels, fresh_net("small", seed=2), tmp_path, seed=1)
    assert load_checkpoint(result.weights).preset.name == "tiny"
    assert "feature" in (tmp_path / "loss.csv").read_text().splitlines()[0]


def test_init_from_the_teacher_starts_at_its_weights(teacher: DepthAnything, labels: Path, tmp_path: Path) -> None:
    slow = STUDENT.schedule.model_copy(update={"steps": 1, "encoder_lr": 1e-12, "decoder_lr": 1e-12})
    loss = STUDENT.loss.model_copy(update={"output": "relu"})
    section = STUDENT.model_copy(update={"init": "teacher", "schedule": slow, "loss": loss})
    net = load_checkpoint(distill(section, labels, teacher, tmp_path, seed=1).weights).net
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(net.parameters(), teacher.parameters(), strict=True))


def test_init_from_a_teacher_of_another_size_is_refused(teacher: DepthAnything, labels: Path, tmp_path: Path) -> None:
    section = STUDENT.model_copy(update={"size": "small", "init": "teacher"})
    with pytest.raises(UsageError, match="the teacher is tiny and the student small"):
        distill(section, labels, teacher, tmp_path, seed=1)


def test_a_missing_dinov2_file_is_named(teacher: DepthAnything, labels: Path, tmp_path: Path) -> None:
    section = STUDENT.model_copy(
        update={"feature_source": "dinov2_checkpoint", "dinov2_checkpoint": tmp_path / "dinov2_vits14.pth"}
    )
    with pytest.raises(CheckpointError, match=r"dinov2_vits14\.pth"):
        distill(section, labels, teacher, tmp_path / "out", seed=1)
