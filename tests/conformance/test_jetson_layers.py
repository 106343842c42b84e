"""`--layers` on real exports of the stress net: planted on a stand-in for TensorRT, the layer is named."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.unit.targets.jetson.on_stand_in import check

PLANTS = 8


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_planted_layer_of_an_export_is_named(
    built, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "export"
    shutil.copytree(built("jetson", precision).folder, folder)
    assert (folder / "layers.npz").stat().st_size < 1_000_000
    with np.load(folder / "layers.npz", allow_pickle=False) as stored:
        rows = json.loads(stored["index"].tobytes())["tensors"]
    assert check(folder, monkeypatch, "--layers")[1]["layers"]["status"] == "none"
    rng = np.random.default_rng(zlib.crc32(precision.encode()))
    said = []
    for place in sorted(rng.choice(len(rows), PLANTS, replace=False)):
        status, found, _ = check(folder, monkeypatch, "--layers", fault=f"layer:{rows[place]['tensor']}")
        if status == 3:  # else it does not show in the map
            first = found["layers"]["first"] or {}
            said.append((rows[place]["tensor"], first.get("tensor"), found["layers"]["builds"]))
    print(precision, len(rows), said)
    assert len(said) >= PLANTS // 2
    assert [planted for planted, _, _ in said] == [named for _, named, _ in said]
