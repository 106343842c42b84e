"""`datk predict`: photographs in, coloured pictures and arrays out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from datk.artifact.files import atomic_path
from datk.depth.buckets import Fit, choose_bucket
from datk.depth.preprocess import list_images, read_image
from datk.depth.runner import DepthMap, ImageU8, Runner, predict_photo
from datk.errors import DataError
from datk.evaluate.predictions import write_meaning
from datk.pipeline.several_buckets import BucketRunner
from datk.report.colour import colourise


def predict_photos(
    runner: Runner,
    images: Sequence[Path],
    out: Path,
    *,
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
) -> list[Path]:
    """Write NAME.png and NAME.npy (float32, the photograph's size) for each photograph, and what the maps mean.

    note: told of every photograph that a fixed size stretches by more than 10 %.

    Raises DataError for an unreadable picture, for two photographs whose results would share a name, or where `out`
    holds maps of another meaning.
    """
    paths = [p for item in images for p in (list_images(item) if item.is_dir() else [item])]
    names: dict[str, Path] = {}
    for path in paths:
        if names.setdefault(path.stem, path) != path:
            raise DataError(f"{path} and {names[path.stem]} would both be written as {path.stem}.npy")
    write_meaning(out, runner.depth_kind, runner.name)
    written = []
    for i, path in enumerate(paths):
        photo = read_image(path)
        depth, fit = _depth(runner, photo)
        if fit is not None and fit.warning:
            note(f"{path.name}: {fit.warning}")
        coloured = cv2.cvtColor(colourise(depth, runner.depth_kind), cv2.COLOR_RGB2BGR)
        with atomic_path(out / f"{path.stem}.npy") as part:
            with part.open("wb") as handle:
                np.save(handle, depth.astype(np.float32))
        with atomic_path(out / f"{path.stem}.png") as part:
            if not cv2.imwrite(str(part), coloured):
                raise DataError(f"{out / path.stem}.png: cannot be written")
        written += [out / f"{path.stem}.npy", out / f"{path.stem}.png"]
        progress(i + 1, len(paths))
    return written


def _depth(runner: Runner, photo: ImageU8) -> tuple[DepthMap, Fit | None]:
    """A photograph's map, and how it fitted; a runner that keeps the aspect stretches nothing."""
    if isinstance(runner, BucketRunner):
        return runner.predict_photo(photo), runner.fit(photo)
    official = getattr(runner, "predict_photo", None)
    if official is not None:
        return official(photo), None
    return predict_photo(runner, photo), choose_bucket((photo.shape[0], photo.shape[1]), [runner.input_size])
