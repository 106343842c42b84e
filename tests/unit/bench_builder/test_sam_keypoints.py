"""SAM's key points, on a tiny SAM of random weights saved here."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

transformers = pytest.importorskip("transformers", reason="transformers (extra 'experts') is not installed")

from datk.bench_builder.sam_keypoints import SamPoints, grid_points, non_maximum_suppression, sam_input  # noqa: E402
from datk.errors import CheckpointError, EnvironmentLacks  # noqa: E402


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import SamConfig, SamModel

    torch.manual_seed(0)
    config = SamConfig(
        vision_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64,
                       "patch_size": 8, "output_channels": 16, "mlp_dim": 16, "window_size": 4,
                       "global_attn_indexes": [0], "num_pos_feats": 8},
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 16,
                             "iou_head_hidden_dim": 16, "iou_head_depth": 2},
    )  # fmt: skip
    net = SamModel(config)
    decoder = net.mask_decoder  # masks of random weights are faint: make them decided
    for part in (decoder.upscale_conv2, *(m.proj_out for m in decoder.output_hypernetworks_mlps)):
        torch.nn.init.normal_(part.weight, std=100.0)
    folder = tmp_path_factory.mktemp("models") / "tiny-sam"
    net.save_pretrained(folder)
    return folder


@pytest.fixture
def photo() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8)
    return cv2.resize(coarse, (90, 60), interpolation=cv2.INTER_CUBIC)


def test_points_are_grid_points_whose_masks_live(sam: Path, photo: np.ndarray) -> None:
    finder = SamPoints(sam, grid=6, predicted_iou=-1e9, stability=0.0)
    points = finder.find(photo)
    grid = {tuple(p) for p in grid_points(6, (60, 90)).tolist()}
    assert 1 <= len(points) <= 36 and {tuple(p) for p in points.tolist()} <= grid
    assert len(SamPoints(sam, grid=6, predicted_iou=1e9).find(photo)) == 0


def test_batches_do_not_change_the_points(sam: Path, photo: np.ndarray) -> None:
    one = SamPoints(sam, grid=5, predicted_iou=-1e9, stability=0.5, points_per_batch=3).find(photo)
    all_at_once = SamPoints(sam, grid=5, predicted_iou=-1e9, stability=0.5, points_per_batch=25).find(photo)
    np.testing.assert_array_equal(one, all_at_once)


def test_the_mask_scores_are_those_of_the_library(sam: Path, photo: np.ndarray) -> None:
    """The whole prompt path against transformers' own processor and forward pass: same input, same predicted IoU."""
    import torch
    from transformers import SamModel
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    processor = SamImageProcessorPil(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    theirs = processor(photo, return_tensors="np")
    ours, inner = sam_input(photo, 64)
    assert list(inner) == np.asarray(theirs["reshaped_input_sizes"])[0].tolist()
    assert np.abs(ours - theirs["pixel_values"]).mean() < 0.05  # area against antialiased bilinear filtering
    np.testing.assert_array_equal(ours[..., inner[0] :, :], 0)
    net = SamModel.from_pretrained(sam).eval()
    points = torch.tensor([[[[10.0, 20.0]], [[30.0, 5.0]]]])
    with torch.inference_mode():
        whole = net(pixel_values=torch.from_numpy(ours), input_points=points)
        embedding = net.get_image_embeddings(torch.from_numpy(ours))
        split = net(image_embeddings=embedding, input_points=points, multimask_output=True)
    torch.testing.assert_close(whole.iou_scores, split.iou_scores)


def test_a_grid_has_the_middles_of_its_cells() -> None:
    assert grid_points(2, (40, 80)).tolist() == [[10, 20], [10, 60], [30, 20], [30, 60]]


def test_overlapping_boxes_fall_to_the_better_one() -> None:
    boxes = [np.array(b, float) for b in ([0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 5, 5], [20, 20, 30, 30])]
    assert sorted(non_maximum_suppression(boxes, [0.5, 0.9, 0.4, 0.1])) == [1, 2, 3]


def test_pickled_weights_are_never_read(sam: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((sam / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(CheckpointError, match=r"no model\.safetensors"):
        SamPoints(tmp_path)


def test_a_folder_of_another_net_is_refused_by_name(sam: Path, tmp_path: Path) -> None:
    config = json.loads((sam / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "vit"}))
    (tmp_path / "model.safetensors").write_bytes((sam / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="expected 'sam'"):
        SamPoints(tmp_path)


def test_truncated_weights_are_refused(sam: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((sam / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((sam / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a readable SAM"):
        SamPoints(tmp_path)


def test_without_transformers_the_pip_line_is_given(sam: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvironmentLacks) as caught:
        SamPoints(sam)
    assert caught.value.hint is not None and "datk[experts]" in caught.value.hint
