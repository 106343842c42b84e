"""Images in tar shards, as WebDataset writes them (KEY.jpg, KEY.json), read in any order without unpacking."""

from __future__ import annotations

import os
import tarfile
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from datk.data.sources.base import EncodedSource
from datk.data.sources.files import first_repeated
from datk.depth.preprocess import IMAGE_SUFFIXES
from datk.errors import DataError

_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2", b"\xfd7": "unxz", b"\x28\xb5": "unzstd"}


@dataclass(frozen=True)
class TarIndex:
    """Where the pictures of one shard lie. names in file order; starts, sizes in bytes."""

    path: Path
    names: tuple[str, ...]
    starts: tuple[int, ...]
    sizes: tuple[int, ...]


def index_tar(path: Path) -> TarIndex:
    """Read the headers of a shard, not its contents.

    Raises DataError when it is missing, compressed (no random access), not a tar, cut short or without a picture.
    """
    try:
        with path.open("rb") as handle:
            magic = handle.read(2)
            if magic in _COMPRESSED:
                raise DataError(
                    f"{path}: a compressed tar cannot be read in any order",
                    hint=f"decompress it once: {_COMPRESSED[magic]} {path}",
                )
            handle.seek(0)
            members = _members(handle, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not members:
        raise DataError(f"{path}: holds no pictures", hint=f"expected members ending in {', '.join(IMAGE_SUFFIXES)}")
    names, starts, sizes = zip(*members, strict=True)
    return TarIndex(path, names, starts, sizes)


def _members(handle: object, path: Path) -> list[tuple[str, int, int]]:
    found: list[tuple[str, int, int]] = []
    length = path.stat().st_size
    try:
        with tarfile.open(fileobj=handle, mode="r:") as archive:  # type: ignore[call-overload]
            for member in archive:
                end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                if end + tarfile.BLOCKSIZE > length:  # no room for the block of zeros that ends an archive
                    raise _cut_short(path, member.name)
                if member.isfile() and member.name.lower().endswith(IMAGE_SUFFIXES):
                    found.append((member.name.removeprefix("./"), member.offset_data, member.size))
    except tarfile.TarError as error:
        if found:
            raise _cut_short(path, found[-1][0]) from error
        raise DataError(f"{path}: not a whole tar archive ({error})", hint="copy the shard again") from error
    return _without_companions(found)


def _without_companions(members: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Leave out KEY.seg.png where there is a KEY.jpg: WebDataset's key ends at the first dot, the rest is its field."""

    def split(name: str) -> tuple[str, str]:
        folder, _, base = name.rpartition("/")
        key, _, field = base.partition(".")
        return f"{folder}/{key}", field

    pictures = {split(name)[0] for name, _, _ in members if "." not in split(name)[1]}
    return [m for m in members if "." not in split(m[0])[1] or split(m[0])[0] not in pictures]


def _cut_short(path: Path, member: str) -> DataError:
    return DataError(f"{path}: cut short at '{member}'", hint="copy the shard again")


class TarSource(EncodedSource):
    """The pictures of several shards, shard after shard. A key is SHARD.tar/MEMBER."""

    def __init__(self, shards: Sequence[Path], *, name: str, threads: int = 8) -> None:
        """Index every shard (headers only). Raises DataError naming a bad shard, or two of the same file name."""
        if (twice := first_repeated([s.name for s in shards])) is not None:
            raise DataError(f"{name}: two shards are named {twice}", hint="keys are SHARD/MEMBER: rename one")
        self.name = name
        with ThreadPoolExecutor(threads) as pool:
            self.shards = tuple(pool.map(index_tar, shards))
        self._ends = tuple(accumulate(len(s.names) for s in self.shards))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _find(self, index: int) -> tuple[TarIndex, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        shard = bisect_right(self._ends, index)
        return self.shards[shard], index - (self._ends[shard - 1] if shard else 0)

    def key(self, index: int) -> str:
        shard, member = self._find(index)
        return f"{shard.path.name}/{shard.names[member]}"

    def encoded(self, index: int) -> bytes:
        shard, member = self._find(index)
        try:
            with shard.path.open("rb", buffering=0) as handle:
                data = os.pread(handle.fileno(), shard.sizes[member], shard.starts[member])
        except OSError as error:
            raise DataError(f"{shard.path}: cannot be read ({error.strerror})") from error
        if len(data) < shard.sizes[member]:
            raise DataError(f"{shard.path}: changed since it was indexed: '{shard.names[member]}' is cut short")
        return data
