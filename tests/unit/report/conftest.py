"""A run folder as the pipeline leaves it, made of real manifests in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datk.artifact.files import write_json
from datk.artifact.manifest import Dataset, Manifest, Metric, OutputRef, Verdict, Weights, output_ref, write_manifest
from datk.depth.io_spec import DepthKind, contract_for

SIZE = (56, 70)
ARTIFACTS = {
    "onnx-fp32": ("onnxruntime-cpu", 1e-6),
    "tflite-fp32": ("litert-cpu", 1e-6),
    "tflite-int8": ("litert-cpu", 0.02),
    "jetson-fp16": ("tensorrt-rtx-build", 2e-4),
    "coreml-fp16": ("coreml-reference", 4e-4),
    "coreml-int8": ("coreml-reference", 0.08),
}
"""Artifact id: who judged it, and how much noise its predictions carry."""

MakeRun = Callable[..., Path]


def photo(index: int) -> NDArray[np.uint8]:
    """A (56, 70, 3) picture that is neither flat nor noise."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    return np.stack([x * 3 % 256, y * 4 % 256, (x + y + 40 * index) % 256], axis=2).astype(np.uint8)


def stage(folder: Path, **more: object) -> None:
    """Write a manifest with what every stage has."""
    fields: dict[str, object] = {
        "stage": folder.name,
        "key": "k" * 64,
        "created_at": f"2026-11-22T12:{int(folder.name[:2]) // 2:02d}:00+00:00",
        "duration_s": 12.5,
        "tools": {"datk": "0.1.0", "torch": "2.13.0"},
        "git": {"commit": "0123456789abcdef0123", "dirty": False},
        "host": {"os": "Linux 6.1", "cpu": "Test CPU", "cores": 2, "machine": "x86_64", "python": "3.11.9"},
        "seed": 7,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(Manifest.model_validate({**fields, **more}), folder)


def write_samples(
    folder: Path, photos: list[tuple[str, NDArray[np.uint8]]], noise: float, *, reference_too: bool = True
) -> None:
    """samples.npz with a smooth map per photo, the teacher's version of it and the artifact's (or the student's)."""
    rng = np.random.default_rng(3)
    arrays: dict[str, NDArray] = {"names": np.array([name for name, _ in photos])}
    for index, (_, image) in enumerate(photos):
        h, w = image.shape[:2]
        y, x = np.mgrid[0:h, 0:w] / max(h, w)
        reference = (2 * y + np.exp(-((x - 0.5) ** 2 + (y - 0.4) ** 2) * 20)).astype(np.float32)
        arrays |= {
            f"photo_{index}": image,
            f"prediction_{index}": (3 * reference + 1 + rng.normal(0, 6 * noise, (h, w))).astype(np.float32),
            f"teacher_{index}": (reference + 0.1 * np.sin(20 * x)).astype(np.float32),
        }
        if reference_too:
            arrays[f"reference_{index}"] = reference
    np.savez_compressed(folder / "samples.npz", **arrays)


def scenes(shift: float) -> dict[str, dict[str, object]]:
    """Per-scene bench figures as details.json holds them."""
    names = ("synthetic_indoor", "Motorcycle", "Aloe", "Adirondack", "ARC2017")
    return {
        name: {"accuracy_percent": 70.0 + 3 * i - shift, "n": 200, "interval95": [63.0 + 3 * i, 77.0 + 3 * i]}
        for i, name in enumerate(names)
    }


def _validate(run: Path, name: str, label: str, noise: float, photos: list[tuple[str, NDArray[np.uint8]]]) -> None:
    folder = run / f"60-validate-{name}"
    target, _, precision = name.partition("-")
    bad = noise > 0.05
    latency = Metric(value=20 + 40 * noise * len(name), unit="ms", n=30)
    unmeasured = Metric(value=None, unit="ms", not_measured="a reference evaluator's time says nothing about a device")
    stage(
        folder,
        facts={"target": target, "precision": precision, "label": label, "reference": "student"},
        verdict=Verdict(
            status="rejected" if bad else "passed",
            reasons=["median correlation 0.9712 below 0.98 (int8)"] if bad else [],
        ),
        metrics={
            "correlation_vs_float_median": Metric(value=1 - noise**1.5, n=60),
            "correlation_vs_float_worst": Metric(value=1 - 3 * noise**1.5, n=60),
            "abs_rel_vs_float": Metric(value=noise, n=60),
            "delta1_vs_float": Metric(value=1 - noise / 4, n=60),
            "ordinal_vs_float": Metric(value=1 - noise / 2, n=60),
            "correlation_vs_teacher_median": Metric(value=0.96 - noise, n=60),
            "bench_accuracy": Metric(value=78.2 - 20 * noise, unit="%", n=1000, interval95=(75.5, 80.6)),
            "bench_drop_pp": Metric(value=20 * noise, unit="pp", n=1000),
            "size_bytes": Metric(value=1.4e7 if "fp32" in name else 3.9e6 if "int8" in name else 7.1e6, unit="bytes"),
            "latency_p50_ms": unmeasured if "coreml" in name else latency,
            "latency_ratio_vs_torch": unmeasured if "coreml" in name else Metric(value=0.6, n=30),
        },
    )
    write_json(folder / "details.json", {"parity_vs_float": {}, "bench": {"scenes": scenes(20 * noise)}, "latency": {}})
    write_samples(folder, photos, noise)


def _make_run(
    run: Path,
    *,
    artifacts: dict[str, tuple[str, float]] | None = None,
    photos: list[tuple[str, NDArray[np.uint8]]] | None = None,
    dataset: str = "datk-calibration-photos",
) -> Path:
    """Write every stage of a full run. Returns run."""
    run.mkdir(parents=True, exist_ok=True)
    shown = photos if photos is not None else [(f"photo{i}.jpg", photo(i)) for i in range(2)]
    (run / "00-recipe.yaml").write_text("name: quickstart\n", encoding="utf-8")
    stage(run / "05-synthetic", facts={"renderer": "embreex", "families": 12}, metrics={"images": Metric(value=240)})
    stage(run / "10-teacher", metrics={"loss": Metric(value=0.123, n=240)}, facts={"device": "cpu", "steps": 400})
    stage(
        run / "20-pseudo-labels",
        datasets=[Dataset(name=dataset, split_sha256="d" * 64, licence="CC0-1.0", n=240)],
        duration_s=75.0,
    )
    stage(
        run / "30-student",
        facts={"feature_source": "teacher_encoder"},
        weights=[Weights(name="student tiny", sha256="e" * 64, licence="Apache-2.0")],
        duration_s=4000.0,
    )
    stage(
        run / "60-validate-student",
        facts={"label": "torch-cpu", "reference": "teacher"},
        metrics={
            "correlation_vs_teacher_median": Metric(value=0.961, n=60),
            "bench_accuracy": Metric(value=78.4, unit="%", n=1000, interval95=(75.7, 80.8)),
            "latency_p50_ms": Metric(value=41.0, unit="ms", n=30),
        },
    )
    write_json(run / "60-validate-student" / "details.json", {"bench": {"scenes": scenes(0.0)}})
    write_samples(run / "60-validate-student", shown, 0.0, reference_too=False)
    for name, (label, noise) in (artifacts or ARTIFACTS).items():
        precision = name.partition("-")[2]
        export = run / f"50-export-{name}"
        export.mkdir(parents=True)
        (export / "model.bin").write_bytes(name.encode() * 50)
        outputs: list[OutputRef] = [output_ref(export / "model.bin", relative_to=export)]
        checks = {"op_lint": {"status": "passed", "detail": "every layer meant to be int8 is", "int8_ops": 41}}
        if "jetson" in name:
            checks["engine"] = {"status": "not_measured", "detail": "no tensorrt and no GPU on this machine"}
        contract = contract_for(input_size=SIZE, depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision=precision)
        stage(export, outputs=outputs, contract=contract, checks=checks, duration_s=8.0)
        _validate(run, name, label, noise, shown)
    return run


@pytest.fixture
def make_run() -> MakeRun:
    """make_run(folder, *, artifacts, photos, dataset) -> folder with a whole run in it."""
    return _make_run


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A complete run of six artifacts, one of them rejected."""
    return _make_run(tmp_path / "quick")


@pytest.fixture
def stage_of() -> Callable[..., None]:
    """stage_of(folder, **fields): write a manifest with what every stage has."""
    return stage


@pytest.fixture
def photo_of() -> Callable[[int], NDArray[np.uint8]]:
    """photo_of(index): a picture that is neither flat nor noise."""
    return photo
