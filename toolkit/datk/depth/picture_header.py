"""What a picture's header says, without decoding it: colours, bits, and whether EXIF turns it.

Sources: ITU-T T.81 (JPEG segments, B.1.1), JEITA CP-3451 (EXIF, tag 0x0112), PNG third edition (IHDR, eXIf).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_ORIENTATION = 0x0112
_PNG = b"\x89PNG\r\n\x1a\n"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Start-of-frame markers; C4, C8 and CC are tables."""


@dataclass(frozen=True)
class PictureHeader:
    """channels: 1 grey, 3 colour, 4 CMYK (JPEG) or with alpha (PNG). orientation: EXIF 1..8, 1 = as stored."""

    kind: str
    channels: int
    bits: int
    orientation: int

    @property
    def oddities(self) -> tuple[str, ...]:
        """In words, what makes it other than an 8-bit colour picture stored upright; decoding copes with all of it."""
        found = []
        if self.channels == 1:
            found.append("grey")
        if self.kind == "jpeg" and self.channels == 4:
            found.append("CMYK")
        if self.bits > 8:
            found.append(f"{self.bits} bits a channel, cut to 8")
        if self.orientation != 1:
            found.append(f"turned upright by EXIF orientation {self.orientation}")
        return tuple(found)


def read_header(data: bytes) -> PictureHeader | None:
    """Header of a JPEG or PNG; None for other formats or a damaged header."""
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(_PNG):
            return _png(data)
    except (struct.error, IndexError):
        return None
    return None


def _jpeg(data: bytes) -> PictureHeader | None:
    at, orientation = 2, 1
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        body = data[at + 4 : at + 2 + length]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            orientation = _orientation(body[6:])
        elif marker in _FRAMES:
            return PictureHeader("jpeg", channels=body[5], bits=body[0], orientation=orientation)
        elif marker == 0xDA:
            return None
        at += 2 + length
    return None


def _png(data: bytes) -> PictureHeader:
    bits, colour = data[24], data[25]
    channels = {0: 1, 2: 3, 3: 3, 4: 1, 6: 4}.get(colour, 0)
    orientation, at = 1, 8
    while at + 8 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind = data[at + 4 : at + 8]
        if kind == b"eXIf":
            orientation = _orientation(data[at + 8 : at + 8 + length])
        if kind == b"IDAT":
            break
        at += 12 + length
    return PictureHeader("png", channels=channels, bits=bits, orientation=orientation)


def _orientation(tiff: bytes) -> int:
    """The orientation entry of the first directory of a TIFF block; 1 when it has none or a strange one."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    (start,) = struct.unpack(order + "I", tiff[4:8])
    (count,) = struct.unpack(order + "H", tiff[start : start + 2])
    for k in range(count):
        entry = tiff[start + 2 + 12 * k : start + 14 + 12 * k]
        if struct.unpack(order + "H", entry[:2])[0] == _ORIENTATION:
            (value,) = struct.unpack(order + "H", entry[8:10])
            return value if 1 <= value <= 8 else 1
    return 1
