from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datk.errors import DataError, EnvironmentLacks
from datk.models import golden
from datk.models.depth_anything import DepthAnything
from datk.models.golden import check_weights, golden_output, huggingface_input, minimal_size
from datk.models.published import PUBLISHED, Published
from datk.models.weights import load_checkpoint


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "000000039769.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=95)
    return path


def test_nine_files_are_published_with_distinct_hashes_and_nine_values() -> None:
    assert len({p.file_name for p in PUBLISHED}) == len({p.sha256 for p in PUBLISHED}) == 9
    assert all(np.array(p.golden).shape == (3, 3) and len(p.sha256) == 64 for p in PUBLISHED)


def test_without_a_picture_golden_values_are_not_measured_and_say_so(vits_path: Path) -> None:
    report = check_weights(vits_path)
    checks = {c.name: c for c in report.checks}
    assert (checks["shapes"].status, checks["finite"].status) == ("passed", "passed")
    assert report.parameters == 24_785_089
    assert checks["golden"].status == "not_measured" and "000000039769.jpg" in checks["golden"].detail
    assert checks["hash"].status == "failed" and "not its bytes" in checks["hash"].detail
    assert not report.passed
    rows = report.rows()
    assert [row[0] for row in rows] == ["file", "shapes", "finite", "hash", "golden"]
    assert "small, relative disparity, 24,785,089 parameters, official, Apache-2.0" in rows[0][2]
    assert json.loads(json.dumps(report.as_json()))["depth_kind"] == "disparity_affine_invariant"


def test_golden_values_pass_within_their_tolerance_and_fail_outside(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    torch.save(DepthAnything("tiny").state_dict(), tmp_path / "t.pth")
    net = load_checkpoint(tmp_path / "t.pth", max_depth_m=20.0).net
    values = golden_output(net, picture)
    monkeypatch.setattr(golden, "golden_output", lambda *_: values)
    for shift, expected in ((9e-5, "passed"), (5e-4, "failed")):
        known = Published("tiny", 20.0, "x.pth", "0", tuple(map(tuple, values + shift)))
        monkeypatch.setattr(golden, "by_kind", lambda *_, known=known: known)
        report = check_weights(tmp_path / "t.pth", picture, max_depth_m=20.0)
        assert {c.name: c.status for c in report.checks}["golden"] == expected


def test_huggingface_preprocessing_is_that_of_its_own_processor(picture: Path) -> None:
    processing = pytest.importorskip("transformers.models.dpt.image_processing_pil_dpt", reason="needs transformers 5")
    processor = processing.DPTImageProcessorPil(
        size={"height": 518, "width": 518},
        keep_aspect_ratio=True,
        ensure_multiple_of=14,
        resample=Image.Resampling.BICUBIC,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        do_pad=False,
    )
    expected = processor(Image.open(picture), return_tensors="np")["pixel_values"]
    found = huggingface_input(picture)
    assert found.shape == expected.shape == (1, 3, 518, 686)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_minimal_size_scales_as_little_as_possible() -> None:
    assert minimal_size((480, 640)) == (518, 686)
    assert minimal_size((300, 500)) == (308, 518)  # both sides below 518: the long side reaches it
    assert minimal_size((375, 1242)) == (518, 1722)


def test_pictures_that_cannot_be_the_golden_one_are_refused(tmp_path: Path, picture: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "small.png")
    with pytest.raises(DataError, match="48x64, expected 480x640"):
        huggingface_input(tmp_path / "small.png")
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(DataError, match="not a readable picture"):
        huggingface_input(tmp_path / "text.jpg")


def test_without_pillow_the_missing_package_is_named(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(EnvironmentLacks, match="need Pillow") as caught:
        huggingface_input(picture)
    assert caught.value.hint == "pip install pillow"
