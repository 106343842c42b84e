"""Dense benchmarks: a data set's photographs with measured depth, scored by a named protocol, one image at a time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from datk.data.dataset import AdaptedDataset, open_dataset
from datk.data.sample import Sample
from datk.depth.io_spec import DepthKind
from datk.depth.runner import Runner
from datk.errors import DataError, EnvironmentLacks, UsageError
from datk.evaluate.benchmarks.protocol import DenseProtocol, alignment_words, variants_of
from datk.evaluate.benchmarks.source import Identity, NamedRunner, predict_full_size
from datk.evaluate.boundary import boundary_f1
from datk.evaluate.metrics import (
    MIN_PIXELS,
    NEAREST,
    DenseScore,
    score_affine_depth,
    score_depth,
    score_median_scaled,
)

SCORER_VERSION = 1
"""Raised whenever the same maps would be scored otherwise: older cached answers are then not used."""

METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "silog", "log10", "delta1", "delta2", "delta3")
HIGHER_IS_BETTER = frozenset(("delta1", "delta2", "delta3", "boundary_f1", "boundary_recall"))
NO_SCENE = "all"
"""Scene of the images of a set that has none."""
SUSPICIOUS_RATIO = 30.0
"""Median of a metric prediction over that of the truth from which a wrong unit is suspected aloud."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DenseImage(_Record):
    """One image. Small: it is what is cached. figures: variant -> metric -> value."""

    figures: dict[str, dict[str, float]] = {}
    n_pixels: int = 0
    problem: str = ""
    """Why it is not scored."""
    fault: str = ""
    """Whose: "data" or "prediction"."""
    warnings: tuple[str, ...] = ()
    scene: str = ""


class DenseResult(_Record):
    """One model on one dense benchmark. Means are over scored images, each counted once."""

    bench: str
    runner: str
    runner_label: str
    depth_kind: DepthKind
    protocol: str
    alignment: dict[str, str]
    """Variant -> how predictions are brought to the truth's scale."""
    figures: dict[str, dict[str, float]]
    """Variant -> metric -> mean. The first variant, "aligned", is what relative and metric nets share."""
    n_listed: int
    n_scored: int
    expected: int | None
    """Images the protocol names."""
    not_scored: dict[str, str]
    """Image -> why: the data's fault."""
    failed: dict[str, str]
    """Image -> why: the prediction's fault. Not in the means, so never overlook it: a gate fails on it."""
    warnings: dict[str, str] = {}
    scenes: dict[str, dict[str, float]] = {}
    """Scene -> n and the means of the first variant."""
    images: dict[str, dict[str, dict[str, float]]]
    image_scenes: dict[str, str] = {}
    """Image -> its scene, for a scene-wise comparison."""
    notes: tuple[str, ...] = ()

    @property
    def denominator(self) -> str:
        """In words: what the means are over."""
        lost = [f"{len(self.not_scored)} not scorable"] if self.not_scored else []
        lost += [f"{len(self.failed)} FAILED predictions"] if self.failed else []
        named = f", the protocol names {self.expected:,}" if self.expected not in (None, self.n_listed) else ""
        return f"{self.n_scored} of {self.n_listed} images" + (f" ({', '.join(lost)})" if lost else "") + named


@dataclass(frozen=True, kw_only=True)
class DenseSet:
    """A dense benchmark loaded: names only, images are read when scored."""

    name: str
    dataset: AdaptedDataset
    protocol: DenseProtocol
    notes: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    """Image -> which of its files is missing."""
    masks: Path | None = None
    """Folder of 8-bit masks, <image's path without suffix>.png: pixels above 0 are also scored on their own."""

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.dataset.key(i) for i in range(len(self.dataset)))

    def content(self, index: int) -> str | None:
        """Digest of all that an image's score depends on beside the model; None when a file cannot be read."""
        item = self.dataset.items[index]
        digest = hashlib.sha256(f"dense {SCORER_VERSION}|{asdict(self.protocol)}|".encode())
        files = [item.root / f for f in item.files]
        mask = self._mask_file(index)
        try:
            if len(set(files)) < len(files):  # several images in one container
                sample = self.dataset.read(index)
                for array in (sample.image, sample.depth, sample.disparity_px, sample.disparity_relative):
                    digest.update(b"" if array is None else array.tobytes())
            for file in (*(files if len(set(files)) == len(files) else ()), *([mask] if mask else [])):
                digest.update(hashlib.sha256(file.read_bytes()).digest())
        except (OSError, DataError):
            return None
        return digest.hexdigest()

    def score(self, runner: Runner, index: int) -> DenseImage:
        """Score one image; what is wrong with it is in the answer, not raised. A broken net raises."""
        item = self.dataset.items[index]
        try:
            sample = self.dataset.read(index)
            mask = self._mask(index, sample.image.shape)
        except DataError as error:
            return DenseImage(problem=error.message, fault="data", scene=item.scene)
        try:
            pred = predict_full_size(runner, sample.image, key=item.key)
        except DataError as error:
            if not isinstance(runner, NamedRunner):
                raise
            return DenseImage(problem=error.message, fault="prediction", scene=item.scene)
        scored = score_map(
            pred, runner.depth_kind, sample, self.protocol, masks={"in mask": mask} if mask is not None else {}
        )
        return scored.model_copy(update={"scene": item.scene})

    def parse(self, value: object) -> DenseImage:
        """A cached answer. Raises pydantic's ValidationError when it is not one."""
        return DenseImage.model_validate(value)

    def result(self, who: Identity, images: Sequence[DenseImage]) -> DenseResult:
        """Sum up. Raises DataError when not one image could be scored, or most truths look wrongly scaled."""
        return summed_up(
            self.name,
            self.keys,
            images,
            who,
            protocol=self.protocol.words(),
            alignment={v: alignment_words(who.depth_kind, v) for v in variants_of(who.depth_kind)},
            missing=self.missing,
            expected=self.protocol.expected,
            notes=self.notes,
        )

    def _mask_file(self, index: int) -> Path | None:
        if self.masks is None:
            return None
        path = self.masks / Path(self.dataset.key(index)).with_suffix(".png")
        return path if path.is_file() else None

    def _mask(self, index: int, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
        path = self._mask_file(index)
        if path is None:
            return None
        pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
        if pixels is None:
            raise DataError(f"{path}: not a readable mask")
        if pixels.shape != shape[:2]:
            raise DataError(f"{path}: mask is {pixels.shape}, the image {shape[:2]}")
        return np.asarray(pixels > 0)


def summed_up(
    name: str,
    keys: Sequence[str],
    images: Sequence[DenseImage],
    who: Identity,
    *,
    protocol: str,
    alignment: dict[str, str],
    missing: Mapping[str, str] | None = None,
    expected: int | None = None,
    notes: tuple[str, ...] = (),
) -> DenseResult:
    """Means over the scored images, and the name of every other. Raises DataError when not one was scored."""
    by_key = dict(zip(keys, images, strict=True))
    not_scored = dict(missing or {}) | {k: i.problem for k, i in by_key.items() if i.fault == "data"}
    failed = {k: i.problem for k, i in by_key.items() if i.fault == "prediction"}
    scored = {k: i for k, i in by_key.items() if i.figures}
    if not scored:
        why = next(iter((*not_scored.values(), *failed.values())), "the set is empty")
        raise DataError(f"{name}: none of the {len(by_key)} images could be scored; first: {why}")
    variants = tuple(dict.fromkeys(v for i in scored.values() for v in i.figures))
    return DenseResult(
        bench=name,
        runner=who.name,
        runner_label=who.label,
        depth_kind=who.depth_kind,
        protocol=f"{who.path}; {protocol}",
        alignment=alignment,
        figures={v: _means([i.figures[v] for i in scored.values() if v in i.figures]) for v in variants},
        n_listed=len(by_key) + len(missing or {}),
        n_scored=len(scored),
        expected=expected,
        not_scored=not_scored,
        failed=failed,
        warnings={k: "; ".join(i.warnings) for k, i in by_key.items() if i.warnings},
        scenes=_scenes(scored, variants[0]),
        images={k: i.figures for k, i in scored.items()},
        image_scenes={k: i.scene or NO_SCENE for k, i in scored.items()},
        notes=notes,
    )


def score_map(
    pred: NDArray[np.floating],
    kind: DepthKind,
    sample: Sample,
    protocol: DenseProtocol,
    *,
    masks: Mapping[str, NDArray[np.bool_]] | None = None,
) -> DenseImage:
    """Score one (H, W) map against a sample by a protocol.

    Metric nets are also scored unaligned and median-scaled, where the truth has metres. masks: name -> (H, W) bool;
    the fit stays that of the whole image, figures of the masked pixels are added as "aligned, NAME" and the rest as
    "aligned, not NAME".
    """
    truth, metres = truth_of(sample)
    truth = protocol.clipped(truth)
    valid = protocol.mask(truth)
    known = np.isfinite(truth) & (truth > 0)
    if valid.sum() < MIN_PIXELS:
        return DenseImage(n_pixels=int(valid.sum()), problem=_why_empty(truth[known], protocol), fault="data")
    warnings = _unit_warning(pred, kind, truth, valid) if metres else ()
    figures: dict[str, dict[str, float]] = {}
    aligned = aligned_score(pred, kind, truth, valid, protocol.cap_m)
    if aligned.undefined:
        return DenseImage(n_pixels=aligned.n_pixels, problem=aligned.undefined, fault="prediction", warnings=warnings)
    figures["aligned"] = _figures(aligned)
    if kind is DepthKind.DEPTH_METRIC_M and metres:
        for name, score in (
            ("metric", score_depth(pred, truth, valid, kind=kind, cap_m=protocol.cap_m)),
            ("median_scaled", score_median_scaled(pred, truth, valid, cap_m=protocol.cap_m)),
        ):
            if not score.undefined:
                figures[name] = _figures(score)
    far = protocol.cap_m if protocol.cap_m is not None else float(truth[valid].max())
    depth = aligned_depth(pred, kind, aligned, far) if protocol.boundary or masks else None
    if protocol.boundary and depth is not None:
        f1 = boundary_f1(depth, np.where(valid, truth, 1.0), valid)
        if math.isfinite(f1):
            figures["aligned"]["boundary_f1"] = f1
    for name, mask in (masks or {}).items():
        assert depth is not None
        for label, where in ((name, mask & valid), (f"not {name}", ~mask & valid)):
            part = score_depth(depth, truth, where, kind=DepthKind.DEPTH_METRIC_M, cap_m=far)
            if not part.undefined:
                figures[f"aligned, {label}"] = _figures(part)
    return DenseImage(figures=figures, n_pixels=aligned.n_pixels, warnings=warnings)


def truth_of(sample: Sample) -> tuple[NDArray[np.float64], bool]:
    """(H, W) depth, nan unknown, and whether it is in metres. Disparity is inverted: its unit is then the set's own."""
    if sample.depth is not None:
        return np.asarray(sample.depth, np.float64), sample.depth_m is not None
    inverse, valid = sample.inverse_depth()
    return np.where(valid & (inverse > 0), 1.0 / np.where(inverse > 0, inverse, 1).astype(np.float64), np.nan), False


def aligned_score(
    pred: NDArray[np.floating],
    kind: DepthKind,
    truth: NDArray[np.float64],
    valid: NDArray[np.bool_],
    cap_m: float | None,
) -> DenseScore:
    """All (H, W). The first variant's score, with the fit that brings the prediction onto the truth."""
    if kind is DepthKind.DEPTH_AFFINE_INVARIANT:
        return score_affine_depth(pred, truth, valid, cap_m=cap_m)
    values = _disparity(pred, kind)
    return score_depth(values, truth, valid, kind=DepthKind.DISPARITY_AFFINE_INVARIANT, cap_m=cap_m)


def _disparity(pred: NDArray[np.floating], kind: DepthKind) -> NDArray[np.float64]:
    values = np.asarray(pred, np.float64)
    return 1.0 / np.maximum(values, NEAREST) if kind is DepthKind.DEPTH_METRIC_M else values


def aligned_depth(pred: NDArray[np.floating], kind: DepthKind, fit: DenseScore, far: float) -> NDArray[np.float64]:
    """(H, W) the aligned prediction as depth, clamped as it was for scoring."""
    if kind is DepthKind.DEPTH_AFFINE_INVARIANT:
        return np.clip(fit.scale * np.asarray(pred, np.float64) + fit.shift, NEAREST, far)
    return 1.0 / np.maximum(fit.scale * _disparity(pred, kind) + fit.shift, 1.0 / far)


def _figures(score: DenseScore) -> dict[str, float]:
    return {name: float(getattr(score, name)) for name in METRICS}


def _why_empty(known: NDArray[np.float64], protocol: DenseProtocol) -> str:
    if known.size < MIN_PIXELS:
        return f"fewer than {MIN_PIXELS} pixels have a known depth"
    middle = float(np.median(known))
    low, high = protocol.nearest_m, protocol.cap_m or math.inf
    text = f"fewer than {MIN_PIXELS} of {known.size} known pixels lie within {low:g} to {high:g} m; median {middle:g} m"
    for factor, unit in ((1000, "millimetres"), (256, "1/256 m"), (100, "centimetres")):
        if low < middle / factor <= high < middle:
            return f"{text}: {unit} taken for metres?"
    return text


def _unit_warning(
    pred: NDArray[np.floating], kind: DepthKind, truth: NDArray[np.float64], valid: NDArray[np.bool_]
) -> tuple[str, ...]:
    if kind is not DepthKind.DEPTH_METRIC_M:
        return ()
    ratio = float(np.median(np.asarray(pred, np.float64)[valid])) / float(np.median(truth[valid]))
    if not ratio > 0 or 1 / SUSPICIOUS_RATIO < ratio < SUSPICIOUS_RATIO:
        return ()
    return (f"the prediction's median is {ratio:.3g} times the truth's: is one of them not in metres?",)


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(n for row in rows for n in row)
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}


def _scenes(scored: Mapping[str, DenseImage], variant: str) -> dict[str, dict[str, float]]:
    by_scene: dict[str, list[Mapping[str, float]]] = {}
    for image in scored.values():
        by_scene.setdefault(image.scene or NO_SCENE, []).append(image.figures[variant])
    return {scene: {"n": float(len(rows))} | _means(rows) for scene, rows in sorted(by_scene.items())}


@dataclass(frozen=True, kw_only=True)
class DenseBenchmark:
    """A named protocol on a data set that one of datk.data.adapters reads."""

    name: str
    title: str
    adapter: str
    protocol: DenseProtocol
    split: str | None = None
    listing_wanted: str = ""
    """What --list should name, where the protocol's images are a list that the set does not bring."""
    notes: tuple[str, ...] = ()

    def load(self, data_dir: Path | None, *, listing: Path | None = None, masks: Path | None = None) -> DenseSet:
        """Find the images. listing: a text file of image paths.

        Raises EnvironmentLacks (exit 4) when no folder is named and none lies at ./data/ADAPTER, DataError when the
        folder is not laid out so, UsageError for a masks folder that is none.
        """
        folder = data_dir or Path("data") / self.adapter
        if data_dir is None and not folder.is_dir():
            raise EnvironmentLacks(
                f"{self.name} needs the data set {self.adapter}; ./{folder} is not there",
                hint=f"name it with --data; `datk data list {self.adapter}` says where to get it and how it lies",
            )
        if masks is not None and not masks.is_dir():
            raise UsageError(f"--masks {masks}: no such folder")
        dataset = open_dataset(self.adapter, folder, self.split, listing=listing, allow_missing=True)
        if not len(dataset):
            raise DataError(f"{folder}: no complete pair of image and depth")
        notes = list(self.notes)
        expected = self.protocol.expected
        if self.listing_wanted and listing is None and expected not in (None, len(dataset)):
            notes.insert(
                0,
                f"NOT the protocol's {expected} images but all {len(dataset)} of the folder: not comparable "
                f"with published figures; --list FILE names {self.listing_wanted}",
            )
        return DenseSet(
            name=self.name,
            dataset=dataset,
            protocol=self.protocol,
            notes=tuple(notes),
            missing=dict(dataset.missing),
            masks=masks,
        )
