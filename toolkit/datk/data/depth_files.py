"""Depth and disparity maps as files: values as stored, top row first. What they mean is the adapter's business."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datk.errors import DataError, EnvironmentLacks
from datk.measure.phases import phase

FloatMap = NDArray[np.float32]

_PFM_HEADER = re.compile(rb"Pf\s+(\d+)\s+(\d+)\s+([-+0-9.eE]+)\s")
_DPT_TAG = 202021.25


def read_bytes(path: Path) -> bytes:
    """A file's bytes. Raises DataError when it cannot be read or is empty."""
    try:
        with phase("read"):
            data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not data:
        raise DataError(f"{path}: empty", hint="copy it again")
    return data


def read_pfm(path: Path) -> FloatMap:
    """(H, W) from a one-channel PFM. Rows are stored bottom-up; the scale's sign gives the byte order.

    The scale's size is not applied: writers leave 1 there or something arbitrary.
    """
    data = read_bytes(path)
    header = _PFM_HEADER.match(data)
    if header is None:
        raise DataError(f"{path}: not a one-channel PFM (it begins {data[:8]!r})", hint="expected 'Pf', size, scale")
    pixels = _decoded(data, path)
    if pixels is None:
        wanted = int(header[1]) * int(header[2]) * 4
        raise DataError(f"{path}: cut short: {len(data) - header.end()} bytes of pixels, expected {wanted}")
    scale = abs(float(header[3])) or 1.0  # OpenCV divides by it
    return np.asarray(pixels * np.float32(scale) if scale != 1 else pixels, np.float32)


def read_exr(path: Path) -> FloatMap:
    """(H, W) from an OpenEXR file: its only channel, or the green one of several (as IRS stores disparity)."""
    try:
        import OpenEXR
    except ImportError as error:
        raise EnvironmentLacks("reading .exr needs the package OpenEXR", hint='pip install "datk[data]"') from error
    read_bytes(path)
    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            channels = {name.split(".")[-1]: c.pixels for name, c in file.channels().items()}
    except (RuntimeError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a readable OpenEXR file ({error})", hint="copy it again") from error
    pixels = next(iter(channels.values())) if len(channels) == 1 else channels.get("G")
    if pixels is None:
        raise DataError(f"{path}: channels {', '.join(channels)}; expected one, or R, G, B")
    return np.ascontiguousarray(pixels, np.float32)


def read_hdf5(path: Path, dataset: str) -> FloatMap:
    """(H, W) from a dataset of an HDF5 file."""
    try:
        import h5py
    except ImportError as error:
        raise EnvironmentLacks("reading .hdf5 needs the package h5py", hint='pip install "datk[data]"') from error
    read_bytes(path)
    try:
        with h5py.File(path, "r") as file:
            if dataset not in file:
                raise DataError(f"{path}: no dataset '{dataset}', only {', '.join(file)}")
            values = np.asarray(file[dataset])
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: not a readable HDF5 file ({error})", hint="copy it again") from error
    return _as_map(values, path)


def read_npy(path: Path) -> FloatMap:
    """(H, W) from a .npy file of any float or integer type, a last axis of length 1 dropped."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a readable .npy array ({error})", hint="copy it again") from error
    return _as_map(values, path)


def read_png16(path: Path) -> NDArray[np.uint16]:
    """(H, W) uint16 from a 16-bit grey PNG, raw values."""
    pixels = _decoded(read_bytes(path), path)
    if pixels is None:
        raise DataError(f"{path}: not a readable PNG", hint="copy it again")
    if pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise DataError(
            f"{path}: {pixels.dtype} {pixels.shape}, expected a 16-bit grey PNG",
            hint="was it converted to 8 bits or to colour? use the original file",
        )
    return np.asarray(pixels, np.uint16)


def is_png16(path: Path) -> bool:
    """Whether a PNG's header says 16-bit grey (PNG specification 11.2.2: bit depth, then colour type, at byte 24)."""
    with path.open("rb") as handle:
        head = handle.read(26)
    return head[:8] == b"\x89PNG\r\n\x1a\n" and head[24:26] == b"\x10\x00"


def read_grey(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """(H, W) from an 8- or 16-bit grey PNG, raw values; of a colour PNG the channels must be equal."""
    pixels = _decoded(read_bytes(path), path)
    if pixels is None:
        raise DataError(f"{path}: not a readable PNG", hint="copy it again")
    if pixels.ndim == 3:
        if not (pixels[..., :1] == pixels[..., :3]).all():
            raise DataError(f"{path}: a colour picture, expected a grey map")
        pixels = pixels[..., 0]
    return np.asarray(pixels)


def read_dpt(path: Path) -> FloatMap:
    """(H, W) from MPI-Sintel's .dpt: float tag 202021.25, int32 width, int32 height, float32 rows top-down."""
    data = read_bytes(path)
    if len(data) < 12 or np.frombuffer(data[:4], "<f4")[0] != _DPT_TAG:
        raise DataError(f"{path}: not a .dpt file (no tag {_DPT_TAG})", hint="copy it again")
    width, height = (int(v) for v in np.frombuffer(data[4:12], "<i4"))
    if len(data) != 12 + 4 * width * height:
        raise DataError(f"{path}: {len(data) - 12} bytes of pixels, expected {4 * width * height}")
    return np.frombuffer(data[12:], "<f4").reshape(height, width).astype(np.float32)


def read_raw_float32(path: Path, size: tuple[int, int]) -> FloatMap:
    """(H, W) from headerless little-endian float32 rows; only the image's size tells the shape."""
    data = read_bytes(path)
    if len(data) != 4 * size[0] * size[1]:
        raise DataError(
            f"{path}: {len(data) // 4} values, but the image has {size[0]} x {size[1]} = {size[0] * size[1]} pixels",
            hint="the depth belongs to another version of the image (distorted or undistorted, resized)",
        )
    return np.frombuffer(data, "<f4").reshape(size).astype(np.float32)


def _decoded(data: bytes, path: Path) -> NDArray | None:
    """Pixels as stored, or None when OpenCV cannot decode them."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:  # a header that promises more pixels than OpenCV takes
        raise DataError(f"{path}: not readable ({error.err})", hint="copy it again") from error


def _as_map(values: NDArray, path: Path) -> FloatMap:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim != 2 or not (np.issubdtype(values.dtype, np.floating) or np.issubdtype(values.dtype, np.integer)):
        raise DataError(f"{path}: {values.dtype} {values.shape}, expected numbers of shape (H, W)")
    return np.ascontiguousarray(values, np.float32)
