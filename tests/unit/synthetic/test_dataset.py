"""A folder of synthetic images: deterministic, resumable, honest about what it holds."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from datk.artifact.files import sha256_file
from datk.data.synthetic import SCENE_VERSION, generate, load
from datk.data.synthetic.renderer import RENDERERS, why_not
from datk.errors import DataError, UsageError

SIZE = (28, 42)
COUNT = 4


@pytest.fixture(scope="module")
def backend() -> str:
    """A renderer of this machine, embreex first because it starts faster."""
    for name in reversed(RENDERERS):
        if why_not(name) is None:
            return name
    pytest.skip("no renderer runs here: neither embreex (pip) nor moderngl (EGL)")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, backend: str) -> Path:
    out = tmp_path_factory.mktemp("synthetic")
    calls: list[tuple[int, int]] = []
    summary = generate(
        out, count=COUNT, size=SIZE, seed=6, renderer=backend, progress=lambda done, total: calls.append((done, total))
    )
    assert (summary.made, summary.kept, summary.renderer) == (COUNT, 0, backend)
    assert calls[0] == (0, COUNT) and calls[-1] == (COUNT, COUNT)
    return out


def _copy(source: Path, target: Path) -> Path:
    for path in source.rglob("*"):
        if path.is_file():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    return target


def test_files_and_index_hold_what_is_promised(finished: Path, backend: str) -> None:
    items = load(finished)
    assert [i.image_path.name for i in items] == [f"{n:06d}.png" for n in range(COUNT)]
    for item in items:
        image, depth = cv2.imread(str(item.image_path)), np.load(item.depth_path, allow_pickle=False)
        assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
        assert depth.shape == SIZE and depth.dtype == np.float32 and (depth > 0).all()
    index = json.loads((finished / "index.json").read_text())
    expected = {"renderer": backend, "seed": 6, "size": list(SIZE), "count": COUNT, "scene_version": SCENE_VERSION}
    assert expected.items() <= index.items() and index["complete"] and index["reason"]
    row = index["items"][0]
    depth = np.load(finished / row["depth"])
    assert row["sky_fraction"] == pytest.approx(np.isinf(depth).mean(), abs=1e-4)
    assert row["median_depth_m"] == pytest.approx(np.median(depth[np.isfinite(depth)]), rel=1e-3)
    assert row["families"] and isinstance(row["has_glass"], bool) and isinstance(row["has_mirror"], bool)


def test_image_i_does_not_depend_on_count_or_workers(finished: Path, tmp_path: Path, backend: str) -> None:
    generate(tmp_path, count=2, size=SIZE, seed=6, renderer=backend, workers=2)
    for name in ("images/000000.png", "images/000001.png", "depth/000000.npy", "depth/000001.npy"):
        assert sha256_file(tmp_path / name) == sha256_file(finished / name), name


@pytest.mark.parametrize("victim", ["images/000002.png", "depth/000001.npy"])
def test_truncated_file_is_redone_and_the_rest_kept(finished: Path, tmp_path: Path, backend: str, victim: str) -> None:
    out = _copy(finished, tmp_path / "set")
    before = {p.name: sha256_file(p) for p in out.rglob("0*")}
    data = (out / victim).read_bytes()
    (out / victim).write_bytes(data[: len(data) * 2 // 3])
    kept_times = {p.name: p.stat().st_mtime_ns for p in out.rglob("000003.*")}
    summary = generate(out, count=COUNT, size=SIZE, seed=6, renderer=backend)
    assert (summary.made, summary.kept) == (1, COUNT - 1)
    assert {p.name: sha256_file(p) for p in out.rglob("0*")} == before
    assert {p.name: p.stat().st_mtime_ns for p in out.rglob("000003.*")} == kept_times
    assert sha256_file(out / "index.json") == sha256_file(finished / "index.json")


def test_interrupted_run_is_not_loaded_and_continues(finished: Path, tmp_path: Path, backend: str) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, count=COUNT, size=SIZE, seed=6, renderer=backend, progress=interrupt)
    with pytest.raises(DataError, match="not finished"):
        load(tmp_path)
    assert generate(tmp_path, count=COUNT, size=SIZE, seed=6, renderer=backend).kept == 2
    assert sha256_file(tmp_path / "index.json") == sha256_file(finished / "index.json")
    assert not list(tmp_path.rglob("*.part*"))


def test_another_seed_in_the_same_folder_is_refused(finished: Path, backend: str) -> None:
    before = sha256_file(finished)
    with pytest.raises(DataError, match=r"seed 6 \(wanted 7\)") as caught:
        generate(finished, count=COUNT, size=SIZE, seed=7, renderer=backend)
    assert "--out" in str(caught.value.hint) and sha256_file(finished) == before


def test_a_folder_of_unknown_files_is_left_alone(tmp_path: Path, backend: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "holiday.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no index\.json"):
        generate(tmp_path, count=1, size=SIZE, seed=0, renderer=backend)


def test_load_names_missing_files(finished: Path, tmp_path: Path) -> None:
    out = _copy(finished, tmp_path / "set")
    (out / "depth" / "000001.npy").unlink()
    with pytest.raises(DataError, match=r"1 files .* depth/000001\.npy"):
        load(out)


@pytest.mark.parametrize(("count", "size"), [(0, SIZE), (1, (10, 42)), (1, (28, 9000))])
def test_impossible_requests_are_refused_before_anything_is_written(
    tmp_path: Path, count: int, size: tuple[int, int]
) -> None:
    out = tmp_path / "set"
    with pytest.raises(UsageError):
        generate(out, count=count, size=size, seed=0)
    assert not out.exists()
