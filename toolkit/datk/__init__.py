"""datk: Depth Anything V2 on edge devices, and the proof that what arrives there is right."""

from pathlib import Path as _Path

for _name in ("train", "targets", "recipes", "calibration_data"):
    if (_Path(__file__).parent / _name).is_file():
        raise ImportError(
            f"this checkout lacks its symlinks: toolkit/datk/{_name} is a text file. "
            "Clone again with `git clone -c core.symlinks=true`, or install the wheel."
        )
del _name
