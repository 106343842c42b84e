"""A run folder with a tiny student of random weights and its ONNX export, made by `datk export`."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch


def datk(*words: str) -> int:
    """Exit code of a `datk` line run in this process."""
    from datk.cli.main import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["datk", *words])
        try:
            main()
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else 0
    return 0


def make_run(folder: Path, *targets: str) -> Path:
    """runs/net below `folder`; the working folder is `folder` afterwards."""
    from datk.models.depth_anything import DepthAnything
    from datk.models.presets import PRESETS
    from datk.models.weights import save_checkpoint

    torch.manual_seed(0)
    net = DepthAnything(PRESETS["tiny"]).eval()
    save_checkpoint(net, folder / "net.safetensors", metadata={"licence": "Apache-2.0"})
    (folder / "photos").mkdir()
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 256, (40, 60, 3), np.uint8)
        cv2.imwrite(str(folder / "photos" / f"{number}.png"), cv2.GaussianBlur(noise, (9, 9), 3))
    few = ["--images", "photos", "--allow-few"]
    words = [w for t in targets for w in ("--target", t)]
    code = datk("export", "--checkpoint", "net.safetensors", *words, "--precision", "fp32", "--input-size", "28", *few)
    assert code in (0, 3)
    return folder / "runs" / "net"
