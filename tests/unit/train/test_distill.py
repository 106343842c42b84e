"""Pseudo-labels and student on the tiny net: what is stored, what is resumed, what the student may see."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open

from datk.artifact.files import sha256_file
from datk.config.train_sections import LossSection, PseudoLabelSection, ScheduleSection, StudentSection
from datk.depth.io_spec import DepthKind
from datk.depth.preprocess import float_input, read_image
from datk.errors import CheckpointError, DataError, UsageError
from datk.models.depth_anything import DepthAnything
from datk.models.weights import load_checkpoint
from datk.train.pseudo_label import label_photos, load_labels
from datk.train.sources import read_label
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


@pytest.fixture(scope="module")
def labels(teacher: DepthAnything, photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("labels")
    label_photos(teacher, photos, out, LABELS)
    return out


def test_a_label_gives_back_the_teachers_map(teacher: DepthAnything, labels: Path, photos: list[Path]) -> None:
    entry = json.loads((labels / "index.json").read_text())["labels"][2]
    assert entry["image"] == str(photos[2])
    assert entry["label_sha256"] == sha256_file(labels / entry["label"])
    with torch.inference_mode():
        expected = teacher(torch.from_numpy(float_input(read_image(photos[2]), (28, 42))))[0].numpy()
    found = read_label(labels / entry["label"]) * entry["scale"] + entry["shift"]
    assert np.abs(found - expected).max() <= entry["scale"] / 65535 + 1e-5


@pytest.mark.parametrize("form", ["png16", "npy16"])
def test_an_interrupted_labelling_goes_on_to_the_same_bytes(
    teacher: DepthAnything, photos: list[Path], tmp_path: Path, form: str
) -> None:
    section = LABELS.model_copy(update={"format": form})

    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_photos(teacher, photos, tmp_path / "a", section, progress=interrupt)
    with (tmp_path / "a/labels.jsonl").open("a") as handle:
        handle.write('{"number": 5, "lab')  # torn in the middle of a line
    assert label_photos(teacher, photos, tmp_path / "a", section).reused == 4
    label_photos(teacher, photos, tmp_path / "b", section)
    assert sha256_file(tmp_path / "a/labels") == sha256_file(tmp_path / "b/labels")
    assert (tmp_path / "a/index.json").read_bytes() == (tmp_path / "b/index.json").read_bytes()


def test_flip_average_labels_a_mirrored_photo_with_the_mirrored_map(
    teacher: DepthAnything, photos: list[Path], tmp_path: Path
) -> None:
    mirrored = tmp_path / "mirror.png"
    cv2.imwrite(str(mirrored), np.ascontiguousarray(cv2.imread(str(photos[0]))[:, ::-1]))
    section = LABELS.model_copy(update={"flip_average": True})
    label_photos(teacher, [photos[0], mirrored], tmp_path / "labels", section)
    one, other = (read_label(p.label_path) for p in load_labels(tmp_path / "labels"))
    assert np.abs(one - other[:, ::-1]).max() < 2e-3


def test_photos_keep_their_aspect_when_no_bucket_is_named(
    teacher: DepthAnything, photos: list[Path], tmp_path: Path
) -> None:
    tall = tmp_path / "tall.png"
    cv2.imwrite(str(tall), np.zeros((90, 60, 3), np.uint8))
    section = PseudoLabelSection(input_size=None, short_side=28, batch_size=4)
    label_photos(teacher, [photos[0], tall, photos[1]], tmp_path / "labels", section)
    sizes = [e["size"] for e in json.loads((tmp_path / "labels/index.json").read_text())["labels"]]
    assert sizes == [[28, 42], [42, 28], [28, 42]], "short side 28, in the order of the list"


def test_a_metric_teachers_depth_becomes_disparity(photos: list[Path], tmp_path: Path) -> None:
    metric = DepthAnything("tiny", depth_kind=DepthKind.DEPTH_METRIC_M, max_depth_m=20.0).eval()
    label_photos(metric, photos[:1], tmp_path, LABELS)
    with torch.inference_mode():
        depth_m = metric(torch.from_numpy(float_input(read_image(photos[0]), (28, 42))))[0].numpy()
    label = read_label(tmp_path / "labels/000000.png")
    assert label.flat[np.argmin(depth_m)] == 1.0 and label.flat[np.argmax(depth_m)] == 0.0
    with pytest.raises(UsageError, match="metric depth"):
        copy_of(metric, "tiny")


def test_labels_of_another_teacher_are_refused(labels: Path, photos: list[Path]) -> None:
    with pytest.raises(DataError, match="labels of another teacher"):
        label_photos(fresh_net("tiny", seed=6), photos, labels, LABELS)


def test_no_photos_and_no_labels_are_named(teacher: DepthAnything, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no photographs to label"):
        label_photos(teacher, [], tmp_path, LABELS)
    with pytest.raises(DataError, match="no finished pseudo-labels"):
        load_labels(tmp_path)


def test_a_constant_map_is_labelled_but_never_trained_on(photos: list[Path], tmp_path: Path) -> None:
    dead = fresh_net("tiny", seed=1)
    last = dead.depth_head.scratch.output_conv2[2]
    torch.nn.init.zeros_(last.weight)
    assert label_photos(dead, photos, tmp_path, LABELS).constant == len(photos)
    with pytest.raises(DataError, match="no label with any spread"):
        load_labels(tmp_path)


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
