"""MLModel over the golden pack beside the package."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np


class MLModel:
    def __init__(self, path, compute_units=None):
        if os.environ.get("STAND_IN_FAULT") == "load":
            raise RuntimeError("Error compiling model: the stand-in refuses")
        self.unit, folder = compute_units.name, Path(path).parent
        size = json.loads((folder / "contract.json").read_text())["input_size"]
        self.maps = {}
        for image in json.loads((folder / "golden/golden.json").read_text())["images"]:
            pixels = (folder / image["input"]).read_bytes()[-3 * size[0] * size[1] :]
            depth = np.fromfile(str(folder / image["float"]), "<f4").reshape(1, *size)
            self.maps[hashlib.sha256(pixels).hexdigest()] = depth

    def predict(self, inputs):
        (picture,) = inputs.values()
        assert picture.mode == "RGB"
        depth = self.maps[hashlib.sha256(picture.tobytes()).hexdigest()]
        spoilt = os.environ.get("STAND_IN_FAULT") == "ne" and self.unit in ("CPU_AND_NE", "ALL")
        return {"depth": depth[:, ::-1] if spoilt else depth}

    def get_compiled_model_path(self):
        return "compiled.mlmodelc"
