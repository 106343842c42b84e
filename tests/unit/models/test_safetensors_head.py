"""A safetensors file is recognised whatever its header's length happens to be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datk.models.checkpoint_file import read_weights, write_safetensors


@pytest.mark.parametrize("low_bytes", [b"\x80", b"PK"], ids=["like a pickle", "like a zip"])
def test_header_length_that_looks_like_another_format_is_still_safetensors(tmp_path: Path, low_bytes: bytes) -> None:
    path = tmp_path / "w.safetensors"
    wanted = int.from_bytes(low_bytes, "little")
    text = b""
    for filler in range(600):
        write_safetensors(path, {"a": torch.ones(2)}, {"note": "x" * filler})
        text = path.read_bytes()[:2]
        if text[: len(low_bytes)] == low_bytes:
            break
    if len(low_bytes) == 2:  # lengths are multiples of 8, "PK" is odd: pad by hand, as other writers may
        raw = path.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        header, tensors = raw[8 : 8 + length].rstrip(), raw[8 + length :]
        path.write_bytes(wanted.to_bytes(8, "little") + header.ljust(wanted) + tensors)
    assert path.read_bytes().startswith(low_bytes)
    found = read_weights(path)
    assert found.metadata["note"].startswith("x")
    assert found.tensors["a"].tolist() == [1, 1]
