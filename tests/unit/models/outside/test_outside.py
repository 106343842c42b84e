"""Teachers from elsewhere: tiny random-weight models of the very classes, against the libraries' own way."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("PIL", reason="pillow is not installed")

from datk.config.train_sections import PseudoLabelSection
from datk.data.sources import open_images
from datk.depth.io_spec import DepthKind
from datk.depth.runner import Runner
from datk.depth.teacher import TeacherRunner, crop_to_view, disparity_from
from datk.errors import CheckpointError, EnvironmentLacks
from datk.models.outside import families, folder, is_outside, open_outside
from datk.models.outside.base import OutsideTeacher
from datk.train.labelling.read import open_labels
from datk.train.pseudo_label import label_images
from tests.unit.models.outside import nets

DISPARITY, METRIC = DepthKind.DISPARITY_AFFINE_INVARIANT, DepthKind.DEPTH_METRIC_M
PHOTO = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8), (60, 45))
HUGGING_FACE = ("depth_anything", "dpt", "zoedepth", "glpn", "depth_pro")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("outside")
    found = {name: getattr(nets, name)(root / name) for name in HUGGING_FACE}
    return found | {"metric": nets.depth_anything(root / "metric", metric=True)}


def opened(path: Path, prefix: str = "hf") -> OutsideTeacher:
    return open_outside(f"{prefix}:{path}", device="cpu", precision="fp32")


def predicted(teacher: OutsideTeacher, photo: np.ndarray = PHOTO) -> np.ndarray:
    prepared = teacher.prepare(photo)
    return crop_to_view(teacher.predict(prepared.pixels[None])[0], prepared.view)


def test_every_family_is_found_by_its_file() -> None:
    assert {f.name for f in families()} == {"dpt", "glpn", "zoedepth", "depth_pro", "marigold"}
    assert is_outside("hf:org/name") and is_outside("marigold:/a/b")
    assert not is_outside("teacher.pth") and not is_outside("/a/hf:b/c.pth") and not is_outside("hf:")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("depth_anything", DISPARITY),
        ("metric", METRIC),
        ("dpt", DISPARITY),
        ("glpn", METRIC),
        ("zoedepth", METRIC),
        ("depth_pro", METRIC),
    ],
)
def test_quantity_licence_and_label_with_the_nearest_point_largest(
    made: dict[str, Path], tmp_path: Path, name: str, kind: DepthKind
) -> None:
    teacher = opened(made[name])
    assert teacher.depth_kind is kind and teacher.licence == "apache-2.0"
    photos = tmp_path / "photos"
    photos.mkdir()
    cv2.imwrite(str(photos / "a.png"), PHOTO[..., ::-1])
    label_images(teacher, open_images(photos), tmp_path / "labels", PseudoLabelSection())
    found, label = predicted(teacher), open_labels(tmp_path / "labels").label(0)
    nearest = found.argmax() if kind is DISPARITY else found.argmin()
    assert found.shape == label.shape and label.flat[nearest] == 1
    record = json.loads((tmp_path / "labels/job.json").read_text())["teacher"]
    assert (
        record["licence"] == "apache-2.0" and record["digest"] == teacher.digest and record["source"] == teacher.source
    )


@pytest.mark.parametrize("name", ["depth_anything", "metric", "dpt", "glpn"])
def test_the_map_is_what_the_library_computes_by_itself(made: dict[str, Path], name: str) -> None:
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    net = AutoModelForDepthEstimation.from_pretrained(made[name]).eval()
    processor = AutoImageProcessor.from_pretrained(made[name], backend="pil")
    with torch.no_grad():
        expected = net(**processor(images=Image.fromarray(PHOTO), return_tensors="pt")).predicted_depth[0].numpy()
    found = predicted(opened(made[name]))
    assert np.ptp(expected) > 0.01 * expected.max(), "a map without relief compares nothing"
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_zoedepths_padding_is_cut_off_again(made: dict[str, Path]) -> None:
    """As the published post-processing: the map resized to the padded photograph, then the padding cut off."""
    teacher = opened(made["zoedepth"])
    prepared = teacher.prepare(PHOTO)
    down, right = int(np.sqrt(45 / 2) * 3), int(np.sqrt(60 / 2) * 3)
    padded = cv2.copyMakeBorder(PHOTO, down, down, right, right, cv2.BORDER_REFLECT_101)
    small = torch.nn.functional.interpolate(
        torch.from_numpy(padded / 255.0).permute(2, 0, 1)[None].float(),
        prepared.pixels.shape[1:],
        mode="bilinear",
        align_corners=True,
    )
    assert np.abs(prepared.pixels - (small[0].numpy() * 2 - 1)).max() < 1e-5
    y, x = np.mgrid[: prepared.pixels.shape[1], : prepared.pixels.shape[2]].astype(np.float32)
    for field in (y, x):
        whole = cv2.resize(field, (60 + 2 * right, 45 + 2 * down), interpolation=cv2.INTER_LINEAR)
        inner = whole[down:-down, right:-right]
        ours = crop_to_view(field, prepared.view)
        again = cv2.resize(ours, (60, 45), interpolation=cv2.INTER_LINEAR)
        assert np.abs(again - inner)[3:-3, 3:-3].max() < 0.05, "in pixels of the map"


def test_depth_pros_square_and_its_metres_follow_the_published_formulas(made: dict[str, Path]) -> None:
    teacher = opened(made["depth_pro"])
    prepared = teacher.prepare(PHOTO)
    square = cv2.resize((PHOTO / 255.0 - 0.5) / 0.5, (64, 64), interpolation=cv2.INTER_LINEAR)
    assert np.abs(prepared.pixels - square.transpose(2, 0, 1)).max() < 1e-5
    with torch.no_grad():
        out = teacher.net(pixel_values=torch.from_numpy(prepared.pixels)[None])
    width = 60
    focal = 0.5 * width / np.tan(0.5 * np.radians(float(out.field_of_view[0])))
    expected = 1 / np.clip(out.predicted_depth[0].numpy() * width / focal, 1e-4, 1e4)
    assert np.allclose(predicted(teacher), expected, rtol=1e-5)
    assert 0.1 < np.median(expected) < 10 and 30 < float(out.field_of_view[0]) < 90


def test_depth_pro_without_its_field_of_view_is_disparity_and_says_so(tmp_path: Path) -> None:
    teacher = opened(nets.depth_pro(tmp_path / "net", view=False))
    assert teacher.depth_kind is DISPARITY and "without its field-of-view" in teacher.notes[0]


def test_a_photograph_is_answered_alike_alone_and_in_a_batch(made: dict[str, Path]) -> None:
    for name in HUGGING_FACE:
        teacher = opened(made[name])
        pixels = teacher.prepare(PHOTO).pixels
        batch = teacher.predict(np.stack([pixels, pixels[..., ::-1].copy(), pixels]))
        alone = teacher.predict(pixels[None])[0]
        if teacher.depth_kind == METRIC:  # Depth Pro's is the inverse of a difference that may be next to nothing
            batch, alone = 1 / batch, 1 / alone
        assert np.allclose(batch[0], alone, rtol=1e-3, atol=1e-4) and np.allclose(batch[2], alone, rtol=1e-3, atol=1e-4)


def test_the_digest_is_of_the_weights_and_configuration_and_a_copy_keeps_it(
    made: dict[str, Path], tmp_path: Path
) -> None:
    before = folder.folder_digest(made["dpt"])
    folder.copy_model(made["dpt"], tmp_path / "copy")
    assert folder.folder_digest(tmp_path / "copy") == before
    (tmp_path / "copy/README.md").write_text("no front matter")
    assert folder.folder_digest(tmp_path / "copy") == before
    assert folder.folder_licence(tmp_path / "copy") == folder.UNKNOWN_LICENCE
    weights = tmp_path / "copy/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert folder.folder_digest(tmp_path / "copy") != before


def test_a_teacher_runs_as_a_runner_and_as_disparity(made: dict[str, Path]) -> None:
    teacher = opened(made["metric"])
    plain = TeacherRunner(teacher, (28, 42), name="teacher")
    turned = TeacherRunner(teacher, (28, 42), name="teacher", as_disparity=True)
    image = cv2.resize(PHOTO, (42, 28))
    assert isinstance(plain, Runner) and plain.depth_kind is METRIC and turned.depth_kind is DISPARITY
    assert np.allclose(turned.predict(image), disparity_from(plain.predict(image)[None], METRIC)[0], rtol=1e-5)
    assert plain.predict_photo(PHOTO).shape == (45, 60) and "as disparity" in turned.label


# refusals


def changed(path: Path, out: Path, name: str, **keys: object) -> Path:
    folder.copy_model(path, out)
    value = json.loads((out / name).read_text()) | keys
    (out / name).write_text(json.dumps(value))
    return out


def test_a_pickle_is_never_loaded(made: dict[str, Path], tmp_path: Path) -> None:
    folder.copy_model(made["dpt"], tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no \.safetensors weights") as caught:
        opened(tmp_path)
    assert "pytorch_model.bin is a pickle" in str(caught.value.hint)


def test_code_in_a_models_folder_is_never_run(made: dict[str, Path], tmp_path: Path) -> None:
    path = changed(
        made["dpt"],
        tmp_path / "net",
        "config.json",
        auto_map={"AutoModelForDepthEstimation": "evil.Net", "AutoConfig": "evil.Config"},
    )
    (path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Net: ...\nclass Config: ...\n")
    opened(path)  # the library's own class answers
    assert not (tmp_path / "ran").exists()


def test_what_is_no_depth_model_is_refused_with_what_is_known(made: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a 'bert', no depth teacher") as caught:
        opened(changed(made["dpt"], tmp_path / "a", "config.json", model_type="bert"))
    assert "depth_anything" in str(caught.value.hint) and "zoedepth" in str(caught.value.hint)
    (tmp_path / "a/config.json").unlink()
    with pytest.raises(CheckpointError, match="does not say what model this is"):
        opened(tmp_path / "a")
    with pytest.raises(CheckpointError, match="neither a folder nor a hub id"):
        opened(tmp_path / "nothing here")


def test_weights_that_do_not_fit_are_refused(made: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="missing or of another shape"):
        opened(changed(made["dpt"], tmp_path, "config.json", num_hidden_layers=5))


def test_a_net_without_its_processors_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: missing"):
        opened(nets.depth_anything(tmp_path / "net", processor=None))


def test_a_processor_that_pads_is_refused(tmp_path: Path) -> None:
    padding = nets.DPT_PROCESSOR | {"do_pad": True, "size_divisor": 14}
    with pytest.raises(CheckpointError, match="do_pad"):
        opened(nets.depth_anything(tmp_path / "net", processor=padding))


def test_an_id_that_cannot_be_fetched_ends_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EnvironmentLacks, match="cannot be fetched") as caught:
        open_outside("hf:datk-tests/no-such-model", device="cpu", precision="fp32")
    assert caught.value.exit_code == 4 and "hf download" in str(caught.value.hint)


@pytest.mark.parametrize("package", ["transformers", "PIL"])
def test_a_missing_package_is_named_with_the_extra(
    made: dict[str, Path], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EnvironmentLacks) as caught:
        opened(made["dpt"])
    assert caught.value.hint == 'pip install "datk[experts]"'


# Marigold


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> OutsideTeacher:
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    return opened(nets.marigold(tmp_path_factory.mktemp("marigold") / "net"), "marigold")


def test_marigold_gives_depth_without_scale_and_says_what_its_disparity_assumes(diffusion: OutsideTeacher) -> None:
    assert diffusion.depth_kind is DepthKind.DEPTH_AFFINE_INVARIANT
    assert "assumes" in diffusion.notes[0] and diffusion.licence == "apache-2.0"
    found = predicted(diffusion)
    assert found.shape == (24, 32) and found.min() >= 0 and found.max() <= 1 and np.ptp(found) > 0.01


def test_marigold_equals_its_own_pipeline_with_the_same_noise(diffusion: OutsideTeacher) -> None:
    prepared = diffusion.prepare(PHOTO).pixels[None]
    noise = torch.randn((1, 4, 12, 16), generator=torch.Generator().manual_seed(0))
    from PIL import Image

    out = diffusion.pipeline(Image.fromarray(PHOTO), latents=noise, match_input_resolution=False)
    assert prepared.shape == (1, 3, 24, 32)
    assert np.abs(diffusion.predict(prepared)[0] - out.prediction[0, ..., 0]).max() < 1e-4


def test_marigold_repeats_itself_and_leaves_the_random_state_alone(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    teacher = opened(nets.marigold(tmp_path / "net", prediction="disparity", scheduler="lcm"), "marigold")
    assert teacher.depth_kind is DISPARITY and teacher.notes == ()
    pixels = teacher.prepare(PHOTO).pixels[None]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = teacher.predict(pixels)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert np.array_equal(teacher.predict(pixels), first)


def test_a_closed_teacher_answers_no_more(made: dict[str, Path]) -> None:
    teacher = opened(made["dpt"])
    teacher.close()
    teacher.close()
    with pytest.raises(RuntimeError, match="is closed"):
        teacher.predict(np.zeros((1, 3, 32, 32), np.float32))
