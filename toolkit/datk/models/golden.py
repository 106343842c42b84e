"""Does a weights file hold what was released? Shapes, hash, finite values, published output values."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from datk.depth.io_spec import IMAGENET_MEAN, IMAGENET_STD, PATCH, DepthKind, Size
from datk.errors import DataError, EnvironmentLacks
from datk.models.depth_anything import DepthAnything
from datk.models.published import PUBLISHED, by_kind, by_sha256
from datk.models.weights import Checkpoint, load_checkpoint

GOLDEN_IMAGE = "000000039769.jpg"
GOLDEN_SIZE: Size = (480, 640)
ABSOLUTE_TOLERANCE = 1e-4
RELATIVE_TOLERANCE = 1e-5
"""Those of the script that published the values (torch.allclose with atol=1e-4)."""
Status = Literal["passed", "failed", "not_measured"]


@dataclass(frozen=True)
class WeightsCheck:
    """One finding; a check that could not be made says why."""

    name: str
    status: Status
    detail: str
    max_error: float | None = None
    """Largest absolute difference in the output's own unit, for the golden values."""


@dataclass(frozen=True)
class WeightsReport:
    """All that is known about one weights file."""

    path: str
    preset: str
    depth_kind: DepthKind
    max_depth_m: float | None
    source_format: str
    sha256: str
    licence: str
    parameters: int
    checks: tuple[WeightsCheck, ...]

    @property
    def passed(self) -> bool:
        """No check failed; checks that were not made do not count."""
        return all(check.status != "failed" for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"depth_kind": self.depth_kind.value, "passed": self.passed}

    def rows(self) -> list[list[str]]:
        """Check, status, detail for a table, what the file is in the first row."""
        kind = "relative disparity" if self.max_depth_m is None else f"metric depth up to {self.max_depth_m:g} m"
        facts = f"{self.preset}, {kind}, {self.parameters:,} parameters, {self.source_format}, {self.licence}"
        return [["file", "read", facts], *([c.name, c.status, c.detail] for c in self.checks)]


def check_weights(
    path: Path | str,
    image: Path | str | None = None,
    *,
    depth_kind: DepthKind | None = None,
    max_depth_m: float | None = None,
) -> WeightsReport:
    """Examine a checkpoint. image: COCO val2017 000000039769.jpg, to compare with the published values.

    Raises CheckpointError when the file cannot be loaded at all (see load_checkpoint), DataError when image is
    not a picture or not that one, EnvironmentLacks without Pillow.
    """
    checkpoint = load_checkpoint(path, depth_kind=depth_kind, max_depth_m=max_depth_m)
    tensors = checkpoint.net.state_dict()
    parameters = sum(p.numel() for p in checkpoint.net.parameters())
    checks = (
        WeightsCheck("shapes", "passed", f"{len(tensors)} tensors with the official names and shapes, none missing"),
        WeightsCheck("finite", "passed", f"all {parameters:,} values are finite"),
        _check_hash(Path(path), checkpoint),
        _check_golden(checkpoint, None if image is None else Path(image)),
    )
    return WeightsReport(
        path=str(path),
        preset=checkpoint.preset.name,
        depth_kind=checkpoint.depth_kind,
        max_depth_m=checkpoint.max_depth_m,
        source_format=checkpoint.source_format,
        sha256=checkpoint.sha256,
        licence=checkpoint.licence,
        parameters=parameters,
        checks=checks,
    )


def _check_hash(path: Path, checkpoint: Checkpoint) -> WeightsCheck:
    known = by_sha256(checkpoint.sha256)
    if known is not None:
        return WeightsCheck("hash", "passed", f"is the released {known.file_name}, byte for byte")
    if path.name in {p.file_name for p in PUBLISHED}:
        return WeightsCheck("hash", "failed", f"has the name of a released file but not its bytes: {checkpoint.sha256}")
    reason = f"no hash is known for a {checkpoint.source_format} file of this name; {checkpoint.sha256}"
    return WeightsCheck("hash", "not_measured", reason)


def _check_golden(checkpoint: Checkpoint, image: Path | None) -> WeightsCheck:
    released = by_kind(checkpoint.preset.name, checkpoint.max_depth_m)
    if checkpoint.source_format in ("datk", "distill-any-depth") or released is None:
        return WeightsCheck("golden", "not_measured", "no output values are published for these weights")
    if image is None:
        return WeightsCheck(
            "golden", "not_measured", f"no picture given; --image {GOLDEN_IMAGE} of COCO val2017 does it"
        )
    found = golden_output(checkpoint.net, image)
    expected = np.array(released.golden)
    error = float(np.abs(found - expected).max())
    close = bool(np.allclose(found, expected, atol=ABSOLUTE_TOLERANCE, rtol=RELATIVE_TOLERANCE))
    words = "equal" if close else "differ from"
    figures = f"largest difference {error:.2g}, tolerance 1e-4 + 1e-5 |v|"
    detail = f"the top-left 3x3 values {words} the published ones ({figures})"
    return WeightsCheck("golden", "passed" if close else "failed", detail, error)


def golden_output(net: DepthAnything, image: Path) -> NDArray[np.float64]:
    """Top-left 3x3 of net's output on the golden picture, preprocessed as transformers does: (3, 3)."""
    with torch.no_grad():
        output = net(torch.from_numpy(huggingface_input(image)))  # (1, 518, 686)
    return np.asarray(output[0, :3, :3].numpy(), dtype=np.float64)


def huggingface_input(image: Path) -> NDArray[np.float32]:
    """(1, 3, 518, 686) float32: Pillow's bicubic on the 8-bit picture, as transformers' DPT processor.

    Differs from the official path (cv2 cubic on floats), which is why it lives here only. Raises DataError
    unless image is a picture of 640x480, as the golden one is.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise EnvironmentLacks("the golden values need Pillow", hint="pip install pillow") from error
    try:
        with Image.open(image) as opened:
            picture = opened.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{image}: not a readable picture ({error})") from error
    size = (picture.height, picture.width)
    if size != GOLDEN_SIZE:
        raise DataError(
            f"{image}: {size[0]}x{size[1]}, expected {GOLDEN_SIZE[0]}x{GOLDEN_SIZE[1]}",
            hint=f"the published values are of COCO val2017 {GOLDEN_IMAGE}",
        )
    height, width = minimal_size(size)
    resized = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
    mean, std = np.array(IMAGENET_MEAN, dtype=np.float32), np.array(IMAGENET_STD, dtype=np.float32)
    normalised = ((resized / 255).astype(np.float32) - mean) / std
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None], dtype=np.float32)


def minimal_size(size: Size, input_size: int = 518, multiple: int = PATCH) -> Size:
    """transformers' size rule: scale as little as possible, so that one side becomes input_size."""
    by_height, by_width = input_size / size[0], input_size / size[1]
    scale = by_width if math.fabs(1 - by_width) < math.fabs(1 - by_height) else by_height
    return round(scale * size[0] / multiple) * multiple, round(scale * size[1] / multiple) * multiple
