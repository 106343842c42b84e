"""A teacher from elsewhere on the route: copied, its quantity turned into disparity, its licence handed on."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("PIL", reason="pillow is not installed")

from datk.artifact.manifest import read_manifest
from datk.cli.console import reporter
from datk.config.load import recipe_from_dict
from datk.config.train_sections import PseudoLabelSection
from datk.depth.io_spec import DepthKind
from datk.depth.preprocess import bucket_image
from datk.errors import CheckpointError, EnvironmentLacks, UsageError
from datk.models.weights import load_checkpoint, save_checkpoint
from datk.pipeline import run as pipeline
from datk.pipeline.distill import DistillRequest, distill_recipe
from datk.pipeline.execute import Selection
from datk.pipeline.models import open_model
from datk.pipeline.reference import teacher_reference
from datk.pipeline.steps.teacher import net_and_licence, spec_of
from datk.pipeline.teachers import open_teacher, teacher_digest
from datk.train.labelling.read import open_labels
from datk.train.start import fresh_net
from tests.unit.models.outside import nets
from tests.unit.train.labelling.toys import write_photos

DISPARITY = DepthKind.DISPARITY_AFFINE_INVARIANT


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nets.depth_anything(tmp_path_factory.mktemp("outside") / "net", metric=True)


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three stages: teacher, labels, student of two steps."""
    root = tmp_path_factory.mktemp("route")
    photos = write_photos(root / "photos", 6)
    schedule = {"steps": 2, "batch_size": 1, "device": "cpu", "precision": "fp32"}
    student = {"size": "tiny", "input_size": 28, "feature_source": "off", "schedule": schedule}
    value = {
        "name": "outside",
        "checkpoints": {"teacher": f"hf:{model}"},
        "photos": {"images": str(photos)},
        "student": {**student, "loss": {"output": "raw", "scale_floor": 0.01}},
    }
    with reporter() as terminal:
        recipe = recipe_from_dict(value, where="test")
        pipeline.run(recipe, root / "run", Selection(until="student"), reporter=terminal)
    return root / "run"


def test_the_run_keeps_the_model_and_hands_its_licence_on(finished: Path, model: Path) -> None:
    folder = finished / "10-teacher"
    assert spec_of(folder) == f"hf:{folder / 'model'}" and net_and_licence(folder) == (None, "apache-2.0")
    recorded = read_manifest(folder).weights[0]
    assert recorded.licence == "apache-2.0" and recorded.sha256 == teacher_digest(f"hf:{model}")
    assert teacher_digest(str(spec_of(folder))) == recorded.sha256, "the copy is the model"
    assert load_checkpoint(finished / "30-student/student.safetensors").licence == "apache-2.0"


def test_its_labels_are_disparity_and_name_neither_this_machine_nor_its_folders(finished: Path) -> None:
    labels = finished / "20-pseudo-labels"
    record = json.loads((labels / "job.json").read_text())
    assert record["teacher"]["depth_kind"] == "depth_metric_m" and record["teacher"]["source"] == "10-teacher"
    assert record["teacher"]["licence"] == "apache-2.0"
    teacher = open_teacher(str(spec_of(finished / "10-teacher")), PseudoLabelSection())
    photo = cv2.imread(str(finished.parent / "photos/p000.png"))[..., ::-1]
    depth_m = teacher.predict(teacher.prepare(np.ascontiguousarray(photo)).pixels[None])[0]
    found = open_labels(labels).label(0)
    assert found.flat[depth_m.argmin()] == 1 and found.flat[depth_m.argmax()] == 0
    assert not (labels / "claims").exists() and str(finished.parent) not in (labels / "index.json").read_text()


def test_a_student_of_disparity_is_compared_with_a_metric_teacher_in_disparity(model: Path, tmp_path: Path) -> None:
    spec, image = f"hf:{model}", np.random.default_rng(0).integers(0, 255, (28, 42, 3), np.uint8)
    turned = teacher_reference(spec, teacher_digest(spec), (28, 42), DISPARITY)
    plain = teacher_reference(spec, teacher_digest(spec), (28, 42), DepthKind.DEPTH_METRIC_M)
    assert (turned.depth_kind, plain.depth_kind) == (DISPARITY, DepthKind.DEPTH_METRIC_M)
    assert np.allclose(turned.predict(image), 1 / plain.predict(image), rtol=1e-5)
    own = tmp_path / "own.safetensors"
    save_checkpoint(fresh_net("tiny", seed=0), own, metadata={"licence": "MIT"})
    assert teacher_reference(str(own), teacher_digest(str(own)), (28, 42), DISPARITY).label == "torch-cpu"


def test_a_model_from_elsewhere_can_be_measured_itself(model: Path) -> None:
    runner = open_model(Path(f"hf:{model}"), (28, 42))
    photo = np.random.default_rng(0).integers(0, 255, (50, 60, 3), np.uint8)
    assert runner.depth_kind is DepthKind.DEPTH_METRIC_M
    assert runner.predict(bucket_image(photo, (28, 42))).shape == (28, 42)
    runner.close()


def test_distill_with_such_a_teacher_needs_no_encoder_of_ours_and_says_so(model: Path, tmp_path: Path) -> None:
    photos = write_photos(tmp_path, 1)
    request = DistillRequest("tiny", teacher=f"hf:{model}", images=photos, budget_s=60)
    recipe, said = distill_recipe(request)
    assert recipe.student is not None and recipe.student.feature_source == "off"
    assert recipe.checkpoints.teacher == f"hf:{model}" and any("no feature alignment" in line for line in said)


def test_wrong_teachers_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    value = {
        "name": "r",
        "checkpoints": {"teacher": f"hf:{tmp_path / 'nothing'}"},
        "student": {"size": "tiny", "input_size": 28, "feature_source": "off"},
    }
    with reporter() as terminal, pytest.raises((CheckpointError, EnvironmentLacks, UsageError)):
        pipeline.run(recipe_from_dict(value, where="test"), tmp_path / "run", Selection(), reporter=terminal)
    assert not (tmp_path / "run").exists()
    with pytest.raises(CheckpointError, match=r"gone\.pth: no such file"):
        teacher_digest(str(tmp_path / "gone.pth"))
