"""weights/weight.bin: the blob file of an ML program, read without Apple's library.

Layout, little-endian: a 64-byte file header (uint32 count, uint32 version = 2), then blobs. A blob is
a 64-byte record (uint32 sentinel 0xDEADBEEF, uint32 data type, uint64 size in bytes, uint64 offset of
the data from the file's start, uint64 padding in bits), followed by its data at a multiple of 64.
Source: MILBlob/Blob/StorageFormat.hpp in apple/coremltools (BSD-3-Clause), a description, not a copy.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datk.errors import TargetError

HEADER_BYTES = 64
RECORD_BYTES = 64
SENTINEL = 0xDEADBEEF
VERSION = 2
DTYPES: dict[int, np.dtype] = {
    1: np.dtype("<f2"),
    2: np.dtype("<f4"),
    3: np.dtype("u1"),
    4: np.dtype("i1"),
    6: np.dtype("<i2"),
    7: np.dtype("<u2"),
    14: np.dtype("<i4"),
    15: np.dtype("<u4"),
}
"""BlobDataType of the record -> NumPy dtype. Types below one byte and bfloat16 are not among our packages'."""


class BlobFile:
    """The blobs of one weight file, read into memory once."""

    def __init__(self, path: Path) -> None:
        """Raises TargetError when path is missing, too short or of another version."""
        if not path.is_file():
            raise TargetError(f"{path}: the weight file is missing", hint="export again")
        self.path = path
        self._data = path.read_bytes()
        if len(self._data) < HEADER_BYTES:
            raise TargetError(f"{path}: {len(self._data)} bytes, shorter than the {HEADER_BYTES}-byte header")
        self.count, version = struct.unpack_from("<II", self._data)
        if version != VERSION:
            raise TargetError(f"{path}: blob file version {version}, expected {VERSION}")

    def read(self, offset: int) -> NDArray:
        """The blob whose record starts at offset, 1-D, in its stored dtype. Raises TargetError when it is damaged."""
        if offset < HEADER_BYTES or offset + RECORD_BYTES > len(self._data):
            raise self._damaged(f"no record at offset {offset} in {len(self._data)} bytes")
        sentinel, code, size, start = struct.unpack_from("<IIQQ", self._data, offset)
        if sentinel != SENTINEL:
            raise self._damaged(f"the record at offset {offset} starts with {sentinel:#x}, not {SENTINEL:#x}")
        if code not in DTYPES:
            raise self._damaged(f"data type {code} at offset {offset} is unknown here")
        dtype = DTYPES[code]
        if start + size > len(self._data) or size % dtype.itemsize:
            raise self._damaged(f"{size} bytes at {start} do not fit in {len(self._data)}")
        return np.frombuffer(self._data, dtype=dtype, count=size // dtype.itemsize, offset=start)

    def _damaged(self, what: str) -> TargetError:
        return TargetError(f"{self.path}: {what}", hint="the package is damaged; export again")
