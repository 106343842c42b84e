"""Dense benchmarks on real RGB-D in every encoding, against formulas written here with NumPy and scikit-learn."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_percentage_error, root_mean_squared_error

from datk.depth.io_spec import DepthKind
from datk.errors import DataError, EnvironmentLacks, UsageError
from datk.evaluate.benchmarks import get
from datk.evaluate.benchmarks.dense import DenseBenchmark, DenseResult, DenseSet
from datk.evaluate.benchmarks.mini import FOLDER
from datk.evaluate.benchmarks.source import identity_of
from tests.unit.data.layouts import WRITERS

DISPARITY, METRIC, AFFINE = (
    DepthKind.DISPARITY_AFFINE_INVARIANT,
    DepthKind.DEPTH_METRIC_M,
    DepthKind.DEPTH_AFFINE_INVARIANT,
)
Map = NDArray[np.float64]


class FixedMaps:
    """Maps made beforehand, one an image, in order."""

    name, label, input_size = "fixed", "test", (14, 14)

    def __init__(self, maps: dict[str, Map], kind: DepthKind) -> None:
        self.depth_kind, self._maps = kind, maps

    def predict(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise AssertionError("asked by name")

    def predict_named(self, key: str, photo: NDArray[np.uint8]) -> NDArray[np.float32]:
        if key not in self._maps:
            raise DataError(f"no map for {key}")
        return self._maps[key].astype(np.float32)

    def digest_of(self, key: str) -> str:
        return key

    def close(self) -> None:
        """Holds nothing."""


def run(found: DenseSet, maps: dict[str, Map], kind: DepthKind) -> DenseResult:
    runner = FixedMaps(maps, kind)
    return found.result(identity_of(runner), [found.score(runner, i) for i in range(len(found.keys))])


def real_truth(name: str) -> Map:
    """(H, W) positive values of a real scene's sensor, nan unknown: disparity in pixels, or metres."""
    scene = next(s for s in json.loads((FOLDER / "real.json").read_text())["scenes"] if s["name"] == name)
    stored = cv2.imread(str(FOLDER / scene["ground_truth"]), cv2.IMREAD_UNCHANGED).astype(np.float64)
    return np.where(stored > 0, stored / scene["scale"], np.nan)


def independent(
    pred: Map, truth: Map, kind: DepthKind, variant: str, cap: float | None, inside: Map
) -> dict[str, float]:
    """The official metric set after the protocol's alignment; scikit-learn fits and averages where it can."""
    with np.errstate(invalid="ignore"):
        ok = np.isfinite(truth) & (truth > 0) & (inside > 0)
    if cap is not None:
        ok[ok] = truth[ok] <= cap
    p, t = pred[ok].astype(np.float32).astype(np.float64), truth[ok]
    far = cap if cap is not None else t.max()
    if variant == "metric":
        q = np.clip(p, 1e-3, far)
    elif variant == "median_scaled":
        q = np.clip(p * np.median(t) / np.median(p), 1e-3, far)
    elif kind is AFFINE:
        q = np.clip(LinearRegression().fit(p[:, None], t).predict(p[:, None]), 1e-3, far)
    else:
        d = 1 / np.maximum(p, 1e-3) if kind is METRIC else p
        q = 1 / np.maximum(LinearRegression().fit(d[:, None], 1 / t).predict(d[:, None]), 1 / far)
    ratio = np.maximum(q / t, t / q)
    logs = np.log(q) - np.log(t)
    return {
        "abs_rel": mean_absolute_percentage_error(t, q),
        "sq_rel": float(np.mean((q - t) ** 2 / t)),
        "rmse": root_mean_squared_error(t, q),
        "rmse_log": root_mean_squared_error(np.log(t), np.log(q)),
        "silog": math.sqrt(np.var(logs) + 0.5 * np.mean(logs) ** 2),
        "log10": float(np.mean(np.abs(np.log10(q / t)))),
        **{f"delta{k}": float(np.mean(ratio < 1.25**k)) for k in (1, 2, 3)},
    }


def agree(result: DenseResult, wanted: list[dict[str, float]], variant: str) -> None:
    for name in wanted[0]:
        assert result.figures[variant][name] == pytest.approx(
            float(np.mean([w[name] for w in wanted])), rel=1e-6, abs=1e-6
        ), name


def write_map(path: Path, stored: Map) -> None:
    """By OpenCV and NumPy, not by anything of datk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, stored.astype(np.float32))
    elif path.suffix == ".pfm":
        assert cv2.imwrite(str(path), stored.astype(np.float32))
    else:
        assert cv2.imwrite(str(path), np.nan_to_num(stored, posinf=0).astype(np.uint16))


ENCODINGS: dict[str, tuple[str, str, float, Callable[[Map], Map], list[float]]] = {
    "png_256": (".png", "depth", 1 / 256, lambda z: np.round(z * 256), [0]),
    "png_1000": (".png", "depth", 0.001, lambda z: np.round(z * 1000), [0]),
    "png_5000": (".png", "depth", 0.0002, lambda z: np.round(z * 5000), [0]),
    "pfm_infinite": (".pfm", "depth", 1.0, lambda z: np.where(np.isnan(z), np.inf, z), [0]),
    "npy_mask": (".npy", "depth", 1.0, lambda z: np.where(np.isnan(z), 1.0, z), []),
    "disparity_px": (".png", "disparity", 1 / 256, lambda d: np.round(d * 256), [0]),
}


@pytest.mark.parametrize("encoding", list(ENCODINGS))
@pytest.mark.parametrize("kind", [DISPARITY, METRIC, AFFINE])
def test_figures_equal_independent_formulas_on_real_sensors(tmp_path: Path, encoding: str, kind: DepthKind) -> None:
    ending, quantity, unit, store, invalid = ENCODINGS[encoding]
    maps, wanted = {}, []
    for number, name in enumerate(("arc2017_bin", "mb2014_motorcycle")):
        sensor = real_truth(name)[::4, ::4]
        truth = sensor if quantity == "disparity" or name.startswith("arc") else 25 / sensor  # metres, of some rig
        stored = store(truth)
        write_map(tmp_path / "depth" / f"{number}{ending}", stored)
        (tmp_path / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), np.zeros((*truth.shape, 3), np.uint8))
        if encoding == "npy_mask":
            write_map(tmp_path / "mask" / f"{number}.npy", np.isfinite(truth).astype(float))
        exact = np.where(np.isfinite(truth), np.where(np.isfinite(stored), stored, np.nan) * unit, np.nan)
        exact = exact.astype(np.float32).astype(np.float64)
        depth = 1 / exact if quantity == "disparity" else exact
        rng = np.random.default_rng(number)
        noisy = np.nan_to_num(depth, nan=1.0) * np.exp(rng.normal(0, 0.2, depth.shape))
        pred = {DISPARITY: 3 / noisy + 2, METRIC: noisy * 1.3, AFFINE: noisy * 7 - 4}[kind]
        maps[f"images/{number}.png"] = pred
        wanted.append({v: independent(pred, depth, kind, v, None, np.ones(depth.shape)) for v in VARIANTS[kind]})
    (tmp_path / "rgbd.json").write_text(json.dumps({"quantity": quantity, "unit": unit, "invalid": invalid}))
    result = run(dense("rgbd").load(tmp_path), maps, kind)
    for variant in VARIANTS[kind] if quantity == "depth" else ("aligned",):
        agree(result, [w[variant] for w in wanted], variant)
    assert set(result.figures) == set(VARIANTS[kind] if quantity == "depth" else ("aligned",))


VARIANTS = {DISPARITY: ("aligned",), AFFINE: ("aligned",), METRIC: ("aligned", "metric", "median_scaled")}


def dense(name: str) -> DenseBenchmark:
    found = get(name)
    assert isinstance(found, DenseBenchmark)
    return found


CROPS: dict[str, Callable[[Map], None]] = {
    "kitti_garg": lambda m: m[int(0.40810811 * m.shape[0]) : int(0.99189189 * m.shape[0]),
                              int(0.03594771 * m.shape[1]) : int(0.96405229 * m.shape[1])].fill(1),
    "eth3d": lambda m: m.fill(1),
    "diode_indoor": lambda m: m.fill(1),
    "sintel": lambda m: m.fill(1),
}  # fmt: skip


@pytest.mark.parametrize(("bench", "adapter", "cap"), [
    ("kitti_garg", "kitti", 80.0), ("eth3d", "eth3d", 200.0), ("diode_indoor", "diode", 80.0),
    ("sintel", "sintel", 80.0),
])  # fmt: skip
def test_each_protocol_is_its_crop_its_cap_and_its_images(tmp_path: Path, bench: str, adapter: str, cap: float) -> None:
    truth = WRITERS[adapter].write(tmp_path)
    found = dense(bench).load(tmp_path)
    maps, wanted = {}, []
    for number, key in enumerate(found.keys):
        z = np.where(np.isinf(truth[key]), np.nan, truth[key]).astype(np.float32).astype(np.float64)
        rng = np.random.default_rng(number)
        maps[key] = 1 / (np.nan_to_num(z, nan=3.0) * np.exp(rng.normal(0, 0.3, z.shape)))
        inside = np.zeros(z.shape)
        CROPS[bench](inside)
        wanted.append(independent(maps[key], z, DISPARITY, "aligned", cap, inside))
    result = run(found, maps, DISPARITY)
    agree(result, wanted, "aligned")
    assert f"cap {cap:g} m" in result.protocol and "least squares in disparity" in result.alignment["aligned"]
    assert result.n_scored == result.n_listed == len(wanted)
    assert result.expected and f"the protocol names {result.expected:,}" in result.denominator


def test_nyu_takes_the_raw_field_the_test_split_and_eigens_crop(tmp_path: Path) -> None:
    import h5py
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    raw = rng.uniform(0.5, 12, (3, 480, 640))
    raw[:, :50] = 0
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = np.zeros((3, 3, 640, 480), np.uint8)
        file["rawDepths"] = raw.transpose(0, 2, 1).astype(np.float32)
        file["depths"] = np.ones((3, 640, 480), np.float32)
    savemat(tmp_path / "splits.mat", {"trainNdxs": np.array([[2]]), "testNdxs": np.array([[1], [3]])})
    found = dense("nyu_raw_eigen").load(tmp_path)
    assert found.keys == ("0001", "0003")
    inside = np.zeros((480, 640))
    inside[45:471, 41:601] = 1
    noise = rng.uniform(0.8, 1.3, raw.shape)
    maps = {k: 1 / (np.maximum(raw, 0.3) * noise)[int(k) - 1] for k in found.keys}
    truth = np.where(raw > 0, raw, np.nan).astype(np.float32).astype(np.float64)
    wanted = [independent(maps[k], truth[int(k) - 1], DISPARITY, "aligned", 10.0, inside) for k in found.keys]
    agree(run(found, maps, DISPARITY), wanted, "aligned")
    assert found.content(0) != found.content(1) and found.content(0) == dense("nyu_raw_eigen").load(tmp_path).content(0)


def test_sky_is_clipped_in_sintel_and_left_out_in_sintel_near(tmp_path: Path) -> None:
    import struct

    z = np.full((20, 20), 10.0)
    z[:5] = 1e5
    (tmp_path / "training/final/a").mkdir(parents=True)
    (tmp_path / "training/depth/a").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "training/final/a/frame_0001.png"), np.zeros((20, 20, 3), np.uint8))
    data = struct.pack("<f", 202021.25) + struct.pack("<ii", 20, 20) + z.astype("<f4").tobytes()
    (tmp_path / "training/depth/a/frame_0001.dpt").write_bytes(data)
    key = "training/final/a/frame_0001.png"
    pred = {key: np.where(z > 100, 72.0, 10.0)}
    clipped = run(dense("sintel").load(tmp_path), pred, METRIC)
    assert clipped.images[key]["metric"]["abs_rel"] == 0
    near = dense("sintel_near").load(tmp_path)
    assert near.score(FixedMaps(pred, METRIC), 0).n_pixels == 300
    assert clipped.figures["aligned"]["boundary_f1"] == pytest.approx(1.0)


def folder(root: Path, depth: Map, *, unit: float = 1.0, names: tuple[str, ...] = ("a", "b", "c")) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "depth").mkdir()
    for name in names:
        cv2.imwrite(str(root / "images" / f"{name}.png"), np.zeros((*depth.shape, 3), np.uint8))
        np.save(root / "depth" / f"{name}.npy", depth.astype(np.float32))
    (root / "rgbd.json").write_text(json.dumps({"quantity": "depth", "unit": unit}))
    return root


RAMP = np.linspace(1, 9, 400).reshape(20, 20)


def test_what_cannot_be_scored_is_named_and_the_denominator_is_said(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", RAMP, names=("a", "b", "c", "d", "e"))
    (root / "images" / "b.png").write_bytes((root / "images" / "b.png").read_bytes()[:20])
    (root / "depth" / "c.npy").unlink()
    np.save(root / "depth" / "d.npy", np.zeros((7, 7), np.float32))
    maps = {"images/a.png": 1 / RAMP}
    maps["images/e.png"] = np.full(RAMP.shape, np.nan)
    result = run(dense("rgbd").load(root), maps, DISPARITY)
    assert result.denominator == "1 of 5 images (3 not scorable, 1 FAILED predictions)"
    assert set(result.not_scored) == {"images/b.png", "images/c.png", "images/d.png"}
    assert "not a readable picture" in result.not_scored["images/b.png"]
    assert "has no depth map" in result.not_scored["images/c.png"]
    assert "(7, 7)" in result.not_scored["images/d.png"]
    assert "nan" in result.failed["images/e.png"]
    del maps["images/e.png"]
    assert "no map for images/e.png" in run(dense("rgbd").load(root), maps, DISPARITY).failed["images/e.png"]


def test_depth_in_the_wrong_unit_is_suspected_by_name(tmp_path: Path) -> None:
    WRITERS["diode"].write(tmp_path / "diode")
    for path in (tmp_path / "diode").rglob("*_depth.npy"):
        np.save(path, np.load(path) * 1000)
    found = dense("diode_indoor").load(tmp_path / "diode")
    with pytest.raises(DataError, match=r"none of the 1 images .* median .* m: millimetres taken for metres\?"):
        run(found, {found.keys[0]: np.ones((24, 32))}, DISPARITY)
    root = folder(tmp_path / "set", RAMP)
    said = run(dense("rgbd").load(root), {f"images/{n}.png": RAMP * 1000 for n in "abc"}, METRIC)
    assert "1e+03 times the truth's" in said.warnings["images/a.png"] and len(said.warnings) == 3


def test_flipped_and_constant_maps_never_look_good(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", RAMP, names=("a",))
    right = run(dense("rgbd").load(root), {"images/a.png": 1 / RAMP}, DISPARITY).figures["aligned"]
    wrong = run(dense("rgbd").load(root), {"images/a.png": -1 / RAMP}, DISPARITY).figures["aligned"]
    assert right["abs_rel"] < 1e-6 and wrong["abs_rel"] > 0.3
    with pytest.raises(DataError, match="the output is constant"):
        run(dense("rgbd").load(root), {"images/a.png": np.ones(RAMP.shape)}, DISPARITY)


def test_masked_surfaces_are_scored_on_their_own(tmp_path: Path) -> None:
    """A pane of glass that a model looks through: wrong inside the mask, right outside."""
    root = folder(tmp_path / "set", RAMP, names=("a",))
    glass = np.zeros((20, 20), np.uint8)
    glass[5:9, 5:9] = 255
    (tmp_path / "masks" / "images").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "masks" / "images" / "a.png"), glass)
    pred = np.where(glass > 0, RAMP * 6, RAMP)
    found = dense("rgbd").load(root, masks=tmp_path / "masks")
    figures = run(found, {"images/a.png": pred}, METRIC).figures
    assert figures["aligned, in mask"]["delta1"] < 0.2 < 0.9 < figures["aligned, not in mask"]["delta1"]
    before = found.content(0)
    cv2.imwrite(str(tmp_path / "masks" / "images" / "a.png"), 255 - glass)
    assert found.content(0) != before
    with pytest.raises(UsageError, match="no such folder"):
        dense("rgbd").load(root, masks=tmp_path / "nowhere")


def test_a_set_without_the_protocols_list_says_its_figures_do_not_compare(tmp_path: Path) -> None:
    WRITERS["kitti"].write(tmp_path)
    plain = dense("kitti_garg").load(tmp_path)
    assert plain.notes[0].startswith("NOT the protocol's 652 images but all")
    listing = tmp_path / "eigen.txt"
    listing.write_text(plain.keys[0] + "\n")
    assert dense("kitti_garg").load(tmp_path, listing=listing).keys == plain.keys[:1]


def test_a_data_set_that_is_not_here_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EnvironmentLacks, match=r"\./data/eth3d is not there") as caught:
        dense("eth3d").load(None)
    assert "datk data list eth3d" in (caught.value.hint or "")


def test_what_depth_files_mean_is_never_guessed(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", RAMP)
    (root / "rgbd.json").unlink()
    with pytest.raises(DataError, match="never guessed"):
        dense("rgbd").load(root)
    (root / "rgbd.json").write_text('{"quantity": "range", "unit": 1}')
    with pytest.raises(DataError, match="not a description"):
        dense("rgbd").load(root)


def test_the_content_key_follows_pixels_and_protocol(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", RAMP)
    found: Any = dense("rgbd").load(root)
    before = [found.content(i) for i in range(3)]
    assert before[0] == before[1]  # same bytes: scored once
    np.save(root / "depth" / "a.npy", (RAMP + 1).astype(np.float32))
    assert [found.content(i) != b for i, b in enumerate(before)] == [True, False, False]
