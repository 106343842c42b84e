"""The one preprocessing: training, calibration, validation and every artifact use these functions.

Source: Depth Anything V2, depth_anything_v2/dpt.py (image2tensor, infer_image) and util/transform.py:
cv2.INTER_CUBIC on the float image, lower-bound size rule, multiples of 14, ImageNet statistics;
output resized bilinearly with align_corners=True.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import IMAGENET_MEAN, IMAGENET_STD, PATCH, Size
from datk.errors import DataError, UsageError
from datk.measure.phases import phase

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_MEAN = np.array(IMAGENET_MEAN, dtype=np.float64)
_STD = np.array(IMAGENET_STD, dtype=np.float64)


def read_image(path: Path, *, upright: bool = True) -> NDArray[np.uint8]:
    """Decode a picture as (H, W, 3) uint8 RGB; see decode_image.

    Raises DataError naming the file when it is missing, empty or not a picture OpenCV can decode.
    """
    try:
        with phase("read"):
            data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return decode_image(data, name=str(path), upright=upright)


def decode_image(data: bytes, *, name: str, upright: bool = True) -> NDArray[np.uint8]:
    """Decode a picture's bytes as (H, W, 3) uint8 RGB.

    upright: apply EXIF rotation (False: as stored, for pictures with a depth map of the stored pixels). Grey and
    palette expanded, alpha dropped, 16 bits cut to the upper 8, CMYK converted.
    Raises DataError with `name` when it is empty, cut short or not a picture OpenCV can decode.
    """
    if _jpeg_cut_short(data):
        raise DataError(f"{name}: a JPEG without its end: the file is cut short", hint="copy it again")
    how = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    with phase("decode"):
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), how) if data else None
        except cv2.error as error:  # a header that promises more pixels than OpenCV takes
            raise DataError(f"{name}: not a readable picture ({error.err})", hint="copy it again") from error
        if image is None:
            raise DataError(f"{name}: not a readable picture", hint=f"expected one of {', '.join(IMAGE_SUFFIXES)}")
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _jpeg_cut_short(data: bytes) -> bool:
    """Whether a JPEG stream has no end marker (FFD9) after its first scan. Older OpenCV paints the rest grey instead.

    Segments before the scan are stepped over by their lengths (ITU-T T.81, B.1.1.4): an EXIF thumbnail has an end too.
    """
    if not data.startswith(b"\xff\xd8"):
        return False
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xDA:
            return data.find(b"\xff\xd9", at) < 0
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return True


def list_images(folder: Path) -> list[Path]:
    """Pictures below folder, sorted by path. Raises DataError when the folder is missing or holds none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such image folder", hint="name a folder that holds .jpg or .png photographs")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not found:
        raise DataError(f"{folder}: holds no pictures", hint=f"expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    return found


def lower_bound_size(size: Size, input_size: int = 518, multiple: int = PATCH) -> Size:
    """Official size rule: the short side becomes at least input_size, both sides multiples of 14.

    640x480 pictures (480, 640) become (518, 686) at 518. numpy's round (half to even), ceil instead
    where rounding would fall below input_size.
    """
    scale = max(input_size / size[0], input_size / size[1])

    def constrain(side: int) -> int:
        rounded = int(np.round(side * scale / multiple)) * multiple
        return rounded if rounded >= input_size else int(np.ceil(side * scale / multiple)) * multiple

    return constrain(size[0]), constrain(size[1])


def normalise(rgb: NDArray[np.floating]) -> NDArray[np.float32]:
    """(H, W, 3) RGB in 0..1 -> (1, 3, H, W) float32, ImageNet mean and standard deviation."""
    out = (rgb.astype(np.float64) - _MEAN) / _STD
    return np.ascontiguousarray(out.transpose(2, 0, 1)[None], dtype=np.float32)


def official_input(photo: NDArray[np.uint8], input_size: int = 518) -> NDArray[np.float32]:
    """(H, W, 3) uint8 RGB -> (1, 3, h, w) float32, the documented float path of the official code."""
    h, w = lower_bound_size((photo.shape[0], photo.shape[1]), input_size)
    with phase("resize"):
        resized = cv2.resize(photo / 255.0, (w, h), interpolation=cv2.INTER_CUBIC)
    return normalise(resized)


def float_input(photo: NDArray[np.uint8], size: Size) -> NDArray[np.float32]:
    """(H, W, 3) uint8 RGB -> (1, 3, h, w) float32 at a bucket's size, without the 8-bit rounding."""
    with phase("resize"):
        resized = cv2.resize(photo / 255.0, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return normalise(resized)


def bucket_image(photo: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB -> (h, w, 3) uint8: what an app hands to an artifact.

    Cubic on the 8-bit image; differs from float_input only by rounding and clipping the overshoot.
    """
    if photo.shape[:2] == tuple(size):
        return np.ascontiguousarray(photo)
    with phase("resize"):
        resized = cv2.resize(photo, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(resized, dtype=np.uint8)


def bucket_tensor(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(h, w, 3) uint8 RGB bucket image -> (1, 3, h, w) float32 normalised: the torch side of parity."""
    return normalise(image / 255.0)


def resize_output(depth: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """(h, w) -> (H, W), bilinear, align_corners=True (cv2 has no such mode, so the grid is explicit)."""
    h, w = depth.shape
    if (h, w) == tuple(size):
        return depth.astype(np.float32, copy=False)
    y0, y1, fy = _corners(h, size[0])
    x0, x1, fx = _corners(w, size[1])
    rows = depth.astype(np.float64)
    rows = rows[y0] * (1 - fy)[:, None] + rows[y1] * fy[:, None]  # (H, w)
    out = rows[:, x0] * (1 - fx) + rows[:, x1] * fx  # (H, W)
    return out.astype(np.float32)


def sample_output(depth: NDArray[np.float32], size: Size, points: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """resize_output(depth, size) at (row, column) points of the large grid, bit for bit, without making it. (N,)."""
    rows, columns = (np.array([p[axis] for p in points], np.intp) for axis in (0, 1))
    h, w = depth.shape
    if (h, w) == tuple(size):
        return np.asarray(depth[rows, columns], np.float32)
    y0, y1, fy = (part[rows] for part in _corners(h, size[0]))
    x0, x1, fx = (part[columns] for part in _corners(w, size[1]))
    values = depth.astype(np.float64)
    left = values[y0, x0] * (1 - fy) + values[y1, x0] * fy
    right = values[y0, x1] * (1 - fy) + values[y1, x1] * fy
    return np.asarray(left * (1 - fx) + right * fx, np.float32)


def _corners(n_in: int, n_out: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Left index, right index and fraction of each output sample along one axis."""
    position = np.linspace(0, n_in - 1, n_out) if n_out > 1 else np.zeros(1)
    left = np.minimum(np.floor(position).astype(np.intp), n_in - 1)
    return left, np.minimum(left + 1, n_in - 1), position - left


def parse_size(text: str) -> Size:
    """`518` means 518x518, `HxW` means (H, W). Raises UsageError unless both are multiples of 14."""
    parts = text.lower().split("x")
    try:
        numbers = [int(p) for p in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or any(n <= 0 for n in numbers):
        raise UsageError(f"--input-size {text}: expected 518 or HxW such as 392x518")
    size = (numbers[0], numbers[-1])
    for side in size:
        check_multiple(side, what=f"--input-size {text}")
    return size


def parse_sizes(text: str) -> tuple[Size, ...]:
    """`518x518,392x518`: several sizes, each once. Raises UsageError as parse_size does."""
    return tuple(dict.fromkeys(parse_size(part.strip()) for part in text.split(",")))


def check_multiple(side: int, *, what: str) -> None:
    """Raise UsageError, naming the two nearest legal sizes, unless side is a positive multiple of 14."""
    if side > 0 and side % PATCH == 0:
        return
    low = max(PATCH, side // PATCH * PATCH)
    raise UsageError(f"{what}: {side} is not a multiple of 14; nearest are {low} and {low + PATCH}")
