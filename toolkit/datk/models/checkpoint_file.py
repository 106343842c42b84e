"""Weights files: reading without running anything in them, writing the same bytes for the same content."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from datk.errors import CheckpointError

WRAPPERS = ("model", "state_dict")
"""Keys under which training scripts keep the weights beside optimizer state and epoch."""
_EXPECTED = "expected a .pth written by torch.save or a .safetensors file"
_BROKEN = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
)
"""What torch's restricted unpickler raises on files that are not what they claim to be."""


LONGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors format."""


@dataclass(frozen=True)
class WeightsFile:
    """The tensors of a file under the names it uses, after unwrapping."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    """safetensors' own metadata; empty for torch files."""
    wrapper: str | None
    """The key the tensors stood under, or None for a flat file."""
    sha256: str


def read_weights(path: Path) -> WeightsFile:
    """Tensors of a .pth or .safetensors file on the CPU, recognised by content and not by its name.

    Nothing in the file is executed. Raises CheckpointError for whatever else the file is.
    """
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder", hint="name the file in it, such as model.safetensors")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    with path.open("rb") as handle:
        head = handle.read(512)
    _reject_impostors(path, head)
    if _is_safetensors(head):
        tensors, metadata = _read_safetensors(path)
        wrapper = None
    else:
        tensors, wrapper = _read_torch(path, head)
        metadata = {}
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return WeightsFile(_without_module_prefix(tensors), metadata, wrapper, digest)


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write float32 tensors: temporary name, synchronised, renamed.

    Equal content gives equal bytes. (The safetensors library puts the metadata in an order that differs from
    call to call, so a file written by it has a new hash each time.)
    """
    assert sys.byteorder == "little" and all(t.dtype == torch.float32 for t in tensors.values())
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name, tensor in sorted(tensors.items()):
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as handle:
            handle.write(len(text).to_bytes(8, "little") + text)
            for _, tensor in sorted(tensors.items()):
                handle.write(tensor.contiguous().numpy().tobytes())
            handle.flush()
            os.fsync(handle.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _is_safetensors(head: bytes) -> bool:
    """By its form: 8 bytes of header length, at most 100 MB as the format says, then JSON.

    The length alone may begin like a zip ("PK") or a pickle (0x80); of those the eight bytes make a far larger number.
    """
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= LONGEST_HEADER


def _reject_impostors(path: Path, head: bytes) -> None:
    """Name the usual results of a failed download."""
    text = head.lstrip().lower()
    if not head:
        raise CheckpointError(f"{path}: is empty", hint="the download failed; fetch it again")
    if text.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path}: is a Git LFS pointer, not the weights", hint="git lfs pull")
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(
            f"{path}: is a web page, not weights",
            hint="use the download link of the file itself (/resolve/, not /blob/)",
        )


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as handle:
            return {name: handle.get_tensor(name) for name in handle.keys()}, dict(handle.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: not a complete safetensors file ({error})", hint="the download may be cut short; fetch it again"
        ) from error


def _read_torch(path: Path, head: bytes) -> tuple[dict[str, Tensor], str | None]:
    if head.startswith(b"PK") and not _is_whole_zip(path):
        raise CheckpointError(f"{path}: the file is cut short", hint="fetch it again")
    if not head.startswith((b"PK", b"\x80")):
        raise CheckpointError(f"{path}: not a weights file", hint=_EXPECTED)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _BROKEN as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):
            raise CheckpointError(
                f"{path}: refused, it is cut short or holds more than plain tensors (nothing was run): {reason[:200]}",
                hint="fetch it again from its publisher, or save its state_dict() as safetensors where you trust it",
            ) from error
        raise CheckpointError(f"{path}: cannot be read ({reason[:200]})", hint=_EXPECTED) from error
    return _unwrap(path, content)


def _is_whole_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # raised, against its documentation, for some damaged directories
        return False


def _unwrap(path: Path, content: Any) -> tuple[dict[str, Tensor], str | None]:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not named tensors", hint=_EXPECTED)
    for key in WRAPPERS:
        inner = content.get(key)
        if isinstance(inner, Mapping):
            return _only_tensors(path, inner, f"'{key}'"), key
    return _only_tensors(path, content, "the file"), None


def _only_tensors(path: Path, content: Mapping[Any, Any], where: str) -> dict[str, Tensor]:
    odd = [str(k) for k, v in content.items() if not (isinstance(k, str) and isinstance(v, Tensor))]
    if odd or not content:
        named = ", ".join(odd[:5]) or "nothing"
        raise CheckpointError(
            f"{path}: {where} must hold named tensors only, found {named}",
            hint=f"known wrappers are {', '.join(WRAPPERS)}",
        )
    return {str(k): v for k, v in content.items()}


def _without_module_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the `module.` that distributed training puts before every name."""
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors
