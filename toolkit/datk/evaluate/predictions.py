"""Maps that another program computed, judged like a net: `preds:DIR`, with what they mean stated, never guessed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from datk.artifact.files import sha256_file, sha256_json, write_json
from datk.data.depth_files import is_png16, read_npy, read_png16
from datk.depth.io_spec import DepthKind, Size
from datk.depth.runner import DepthMap, ImageU8
from datk.errors import DataError, UsageError

PREFIX = "preds:"
FILE = "predictions.json"
EXAMPLE = '{"program": "GeoWizard", "quantity": "depth", "larger_is": "farther"}'
ENDINGS = (".npy", ".png")


class PredictionMeaning(BaseModel):
    """predictions.json in the folder, or KEY=VALUE after the folder's name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    quantity: Literal["disparity", "depth", "metric_depth"]
    """disparity, depth: up to scale and shift. metric_depth: metres times 1/unit."""
    larger_is: Literal["nearer", "farther"]
    unit: float = Field(1.0, gt=0)
    """metric_depth: metres of one stored unit, 0.001 for 16-bit millimetres."""
    program: str = ""

    @model_validator(mode="after")
    def _metres_have_one_sign(self) -> PredictionMeaning:
        if self.quantity == "metric_depth" and self.larger_is == "nearer":
            raise ValueError("metric_depth that is larger nearer is no depth; is it disparity?")
        return self

    @property
    def kind(self) -> DepthKind:
        return {
            "disparity": DepthKind.DISPARITY_AFFINE_INVARIANT,
            "depth": DepthKind.DEPTH_AFFINE_INVARIANT,
            "metric_depth": DepthKind.DEPTH_METRIC_M,
        }[self.quantity]


def is_predictions(spec: str) -> bool:
    """Whether a model's name means maps computed elsewhere."""
    return spec.startswith(PREFIX)


def write_meaning(folder: Path, kind: DepthKind, program: str) -> None:
    """Say in a folder of maps what they mean, so that `preds:DIR` takes it as it lies.

    Raises DataError where it says something else already: maps of two meanings in one folder could not be told apart.
    """
    quantity = {
        DepthKind.DISPARITY_AFFINE_INVARIANT: "disparity",
        DepthKind.DEPTH_AFFINE_INVARIANT: "depth",
        DepthKind.DEPTH_METRIC_M: "metric_depth",
    }[kind]
    meaning = PredictionMeaning.model_validate({"quantity": quantity, "larger_is": kind.larger_is, "program": program})
    path = folder / FILE
    if path.is_file():
        before = read_spec(f"{PREFIX}{folder}")[1]
        if (before.kind, before.larger_is, before.unit) != (meaning.kind, meaning.larger_is, meaning.unit):
            raise DataError(
                f"{folder} holds maps of {before.quantity}, larger is {before.larger_is}; these are {quantity}",
                hint="name another folder: --out DIR",
            )
    write_json(path, meaning.model_dump(mode="json"))


def read_spec(spec: str) -> tuple[Path, PredictionMeaning]:
    """`preds:DIR[,quantity=depth,larger_is=farther,...]`; without the words, DIR/predictions.json says it.

    Raises UsageError with what to write when neither does, or they do not say enough.
    """
    place, *words = spec.removeprefix(PREFIX).split(",")
    folder = Path(place)
    if not folder.is_dir():
        raise UsageError(f"{spec}: {folder} is no folder", hint="name the folder with the .npy or .png maps")
    value: dict[str, Any] = {}
    path = folder / FILE
    if path.is_file():
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UsageError(f"{path}: not JSON ({error})", hint=f"write {EXAMPLE}") from error
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise UsageError(f"{spec}: '{word}' is not KEY=VALUE", hint="such as quantity=disparity,larger_is=nearer")
        value[key.strip()] = float(text) if key.strip() == "unit" and _is_number(text) else text.strip()
    try:
        return folder, PredictionMeaning.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "together"
        raise UsageError(
            f"{folder}: what these maps mean must be said ({where}: {first['msg'].removeprefix('Value error, ')})",
            hint=f"write {path} such as {EXAMPLE}, or name it so: preds:{folder},quantity=disparity,larger_is=nearer",
        ) from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class PredictionFolder:
    """A folder of maps behind the Runner protocol; asked by the image's name.

    For image images/indoor/a.jpg it takes images/indoor/a, indoor/a or a, .npy (float) or .png (16-bit grey). A .png
    that is no 16-bit grey beside a .npy is its coloured picture, as many programs write it, and passed over.
    """

    input_size: Size = (0, 0)

    def __init__(self, folder: Path, meaning: PredictionMeaning) -> None:
        self._folder, self._meaning = folder, meaning
        self.name = meaning.program or folder.name
        self.label = f"maps computed elsewhere ({meaning.quantity}, larger is {meaning.larger_is})"
        self.depth_kind = meaning.kind

    @property
    def key(self) -> str:
        """Identity of what the stored numbers mean; the maps themselves have keys of their own."""
        return sha256_json(self._meaning.model_dump())

    def check(self, keys: Sequence[str]) -> None:
        """Raise UsageError when two images of a benchmark would be answered by one file."""
        taken: dict[Path, str] = {}
        for key in keys:
            for path in self._candidates(key):
                if path.is_file() and taken.setdefault(path, key) != key:
                    raise UsageError(
                        f"{path} would answer both {taken[path]} and {key}", hint="keep the benchmark's folders in DIR"
                    )

    def digest_of(self, key: str) -> str:
        """Of the file that answers an image; empty when there is none."""
        found = self._found(key)
        return sha256_file(found[0]) if found else ""

    def predict(self, image: ImageU8) -> DepthMap:
        raise UsageError(f"{self.name} are maps of named images: they cannot predict a new one")

    def predict_named(self, key: str, photo: ImageU8) -> DepthMap:
        """(H, W) float32 of the image's name, in depth_kind. Raises DataError when it is absent or unusable."""
        found = self._found(key)
        if not found:
            raise DataError(f"{self._folder}: no map for {key}: neither .npy nor .png of that name")
        if len(found) > 1:
            raise DataError(f"{self._folder}: two maps for {key}: {found[0].name} and {found[1]}")
        path = found[0]
        values = read_npy(path) if path.suffix == ".npy" else read_png16(path).astype(np.float32)
        expected, got = photo.shape[1] / photo.shape[0], values.shape[1] / values.shape[0]
        if abs(expected / got - 1) > 0.02:
            raise DataError(
                f"{path}: map is {values.shape}, its image {photo.shape[:2]}: another shape, not only another size",
                hint="is it transposed, padded or cropped?",
            )
        if self._meaning.kind is DepthKind.DEPTH_METRIC_M:
            return np.asarray(values * np.float32(self._meaning.unit), np.float32)
        turned = self._meaning.kind.larger_is != self._meaning.larger_is
        return np.asarray(-values if turned else values, np.float32)

    def close(self) -> None:
        """Holds nothing."""

    def _found(self, key: str) -> list[Path]:
        files = [p for p in self._candidates(key) if p.is_file()]
        return [p for p in files if not (p.suffix == ".png" and p.with_suffix(".npy") in files and not is_png16(p))]

    def _candidates(self, key: str) -> list[Path]:
        parts = PurePosixPath(key).with_suffix("").parts
        return [
            self._folder.joinpath(*parts[start:-1], parts[-1] + ending)
            for start in range(len(parts))
            for ending in ENDINGS
        ]


def open_predictions(spec: str) -> PredictionFolder:
    """Raises UsageError like read_spec."""
    return PredictionFolder(*read_spec(spec))
