"""golden/: a few photographs, what an app must feed for them, and what must come out.

Everything is in forms that need no library: pictures as binary PPM, depth maps as little-endian float32, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datk.artifact.files import atomic_path, write_json
from datk.artifact.provenance import tool_versions
from datk.artifact.verify import GOLDEN
from datk.data.photos import PhotoFile, builtin_photos
from datk.depth.io_spec import Contract
from datk.depth.preprocess import bucket_image
from datk.depth.runner import Runner
from datk.errors import EnvironmentLacks
from datk.targets.base import InputForm, Target

if TYPE_CHECKING:
    from torch import nn

NAMES = ("kodak_0001.jpg", "skimage_0001.jpg", "kodak_0008.jpg")
"""Held-out photographs that tell mistakes apart: far from grey (red and blue differ by 112 and 107 levels on average,
so BGR cannot pass), none square (a letterbox or a crop cannot pass), one of them upright."""

RUN_TO_RUN = {
    "fp32": {"min_correlation": 0.99999, "max_error_rel": 1e-3},
    "fp16": {"min_correlation": 0.9999, "max_error_rel": 1e-2},
}
"""The same file in the same runtime on another machine: kernels of another instruction set round otherwise."""
RUN_TO_RUN_INT8 = {"min_correlation": 0.999, "max_error_rel": 5e-2}
OTHER_RUNTIME_INT8 = {"min_correlation": 0.98, "max_error_rel": 5e-2}
"""The same file in another runtime, or version of it: int8 kernels that round a tie the other way move a map by as much
as quantising did (tflite-runtime 2.14 against ai-edge-litert 2.3: 0.992 to 0.997 on a ViT-S of random weights)."""
OTHER_ARITHMETIC = {"coreml-reference": {"min_correlation": 0.99}}
"""Who answered at export in an arithmetic of its own, where the artifact will run in another: Core ML on a Mac chooses
its units, so its answers are held to the picture, not to the last digits."""
AGAINST_FLOAT = {"fp32": 0.999, "fp16": 0.995}
"""Least correlation with the float net on one photograph; coarser precisions: the gate on the worst photograph."""
AGAINST_FLOAT_INT8 = 0.95
APP = {"max_input_difference": 3.0, "min_correlation": 0.99}
"""For an app's own pipeline from photograph to map: mean |difference| of its input picture in levels of 255 (another
library's cubic resize stays below 2, BGR is beyond 50), and correlation with the artifact's answer at export."""


@dataclass(frozen=True)
class GoldenImage:
    """One photograph of the pack."""

    file: PhotoFile
    photo: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    bucket: NDArray[np.uint8]
    """(h, w, 3) RGB: what the artifact is fed."""

    @property
    def name(self) -> str:
        return self.file.path.stem


def write_golden(out: Path, target: Target, artifact: Path, contract: Contract, float_module: nn.Module) -> None:
    """Write out/golden/: photographs, inputs, the float net's answers and the artifact's own on this machine.

    float_module: deployment module in the target's input form. Raises DataError for changed photographs, TargetError
    when the artifact does not run.
    """
    images = golden_images(contract)
    floats = [_float_answer(float_module, image.bucket, target.input_form) for image in images]
    own, label, runtime, why_none = _own_answers(target, artifact, contract, images)
    run_to_run = RUN_TO_RUN.get(contract.precision) if contract.output.scale is None else None  # a level may flip
    folder = out / Path(GOLDEN).parent
    entries = []
    for index, image in enumerate(images):
        write_ppm(folder / f"{image.name}.ppm", image.photo)
        write_ppm(folder / f"{image.name}.input.ppm", image.bucket)
        _write_floats(folder / f"{image.name}.float.f32", floats[index])
        if own is not None:
            _write_floats(folder / f"{image.name}.artifact.f32", own[index])
        entries.append(_entry(image, with_own=own is not None))
    write_json(
        out / GOLDEN,
        {
            "schema_version": 1,
            "precision": contract.precision,
            "input_size": list(contract.input_size),
            "artifact_results_by": label,
            "runtime": runtime,
            "no_artifact_results": why_none,
            "tools": tool_versions(("numpy", "opencv-python-headless", *target.tools)),
            "tolerance": {
                "float": {"min_correlation": AGAINST_FLOAT.get(contract.precision, AGAINST_FLOAT_INT8)},
                "artifact": OTHER_ARITHMETIC.get(str(label), run_to_run or RUN_TO_RUN_INT8),
                "other_runtime": run_to_run or OTHER_RUNTIME_INT8,
                "app": APP,
            },
            "formats": "ppm: binary PPM, RGB, 8 bits; f32: little-endian float32, (height, width), row by row",
            "images": entries,
        },
    )


def golden_images(contract: Contract) -> list[GoldenImage]:
    """The pack's photographs at a contract's size. Raises DataError when datk's own files are changed."""
    known = {p.name: p for p in builtin_photos("validation")}
    images = []
    for name in NAMES:
        photo = known[name].read()
        images.append(GoldenImage(known[name], photo, bucket_image(photo, contract.input_size)))
    return images


def _entry(image: GoldenImage, *, with_own: bool) -> dict[str, Any]:
    folder = Path(GOLDEN).parent.as_posix()
    return {
        "name": image.name,
        "photo": f"{folder}/{image.name}.ppm",
        "photo_size": list(image.photo.shape[:2]),
        "licence": image.file.licence,
        "credit": image.file.credit,
        "source": image.file.source,
        "source_sha256": image.file.sha256,
        "input": f"{folder}/{image.name}.input.ppm",
        "float": f"{folder}/{image.name}.float.f32",
        "artifact": f"{folder}/{image.name}.artifact.f32" if with_own else None,
    }


def _own_answers(
    target: Target, artifact: Path, contract: Contract, images: list[GoldenImage]
) -> tuple[list[NDArray[np.float32]] | None, str | None, str | None, str | None]:
    """(maps, who computed them, package and version where the runner tells, None), or (None, ..., why nobody could)."""
    try:
        runner: Runner = target.open(artifact, contract)
    except EnvironmentLacks as error:
        return None, None, None, error.message
    try:
        maps = [runner.predict(image.bucket) for image in images]
        return maps, runner.label, getattr(runner, "runtime", None), None
    finally:
        runner.close()


def _float_answer(module: nn.Module, bucket: NDArray[np.uint8], form: InputForm) -> NDArray[np.float32]:
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(bucket))[None]  # (1, h, w, 3)
    with torch.no_grad():
        out = module(pixels if form == "nhwc_uint8" else pixels.permute(0, 3, 1, 2).float())
    return np.asarray(out[0].numpy(), dtype=np.float32)


def write_ppm(path: Path, image: NDArray[np.uint8]) -> None:
    """(h, w, 3) uint8 RGB as binary PPM, written atomically."""
    with atomic_path(path) as part:
        part.write_bytes(b"P6\n%d %d\n255\n" % (image.shape[1], image.shape[0]) + np.ascontiguousarray(image).tobytes())


def _write_floats(path: Path, depth: NDArray[np.float32]) -> None:
    with atomic_path(path) as part:
        part.write_bytes(np.ascontiguousarray(depth, dtype="<f4").tobytes())
