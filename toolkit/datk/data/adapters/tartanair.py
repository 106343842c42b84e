"""TartanAir v1 (CMU, IROS 2020): drone flights through 30 rendered worlds.

Sources: castacks/tartanair_tools README and data_type.md; sky and the odd environment: DepthAnything-V2 issue 144.
"""

from __future__ import annotations

import numpy as np

from datk.data.adapters.base import Adapter, Item
from datk.data.adapters.layout import Layout
from datk.data.depth_files import read_npy
from datk.data.sample import Sample
from datk.depth.preprocess import read_image

SKY_M = 10_000.0
"""At and beyond this a value is the sky dome, not scenery."""
INCONSISTENT = "amusement"


def read(item: Item) -> Sample:
    """Metres; 0 is unknown, from 10,000 m on it is sky."""
    stored = read_npy(item.depth)
    depth_m = np.where(stored >= SKY_M, np.inf, np.where(stored > 0, stored, np.nan)).astype(np.float32)
    return Sample(name=item.key, image=read_image(item.image), depth_m=depth_m)


def leave_out(item: Item) -> str | None:
    """Its sky dome lies at a depth of its own and cuts through scenery."""
    if item.fields["environment"] == INCONSISTENT:
        return f"environment '{INCONSISTENT}': its sky dome has an inconsistent depth"
    return None


_FIELDS = {"difficulty": "Easy|Hard", "trajectory": r"P\d{3}", "frame": r"\d{6}"}
_REST = "{difficulty}/{trajectory}"

ADAPTER = Adapter(
    name="tartanair",
    title="TartanAir",
    role="train",
    scenes="both",
    licence="CC BY 4.0",
    home="https://theairlab.org/tartanair-dataset",
    depth=".npy float, metres; 0 = unknown, >= 10,000 = sky",
    layouts=(
        Layout(
            image=f"{{environment}}/{_REST}/image_left/{{frame}}_left.png",
            depth=f"{{environment}}/{_REST}/depth_left/{{frame}}_left_depth.npy",
            fields=_FIELDS,
            scene="{environment}",
            split="{difficulty}",
        ),
        Layout(
            image=f"{{environment}}/{{environment}}/{_REST}/image_left/{{frame}}_left.png",
            depth=f"{{environment}}/{{environment}}/{_REST}/depth_left/{{frame}}_left_depth.npy",
            fields=_FIELDS,
            scene="{environment}",
            split="{difficulty}",
            note="as the archives unpack, one folder each",
        ),
        Layout(
            image=f"{{environment}}/{{difficulty}}/image_left/{{environment}}/{_REST}/image_left/{{frame}}_left.png",
            depth=f"{{environment}}/{{difficulty}}/depth_left/{{environment}}/{_REST}/depth_left/{{frame}}_left_depth.npy",
            fields=_FIELDS,
            scene="{environment}",
            split="{difficulty}",
            note="every archive unpacked beside itself",
        ),
    ),
    read=read,
    leave_out=leave_out,
    paper_images=306_000,
    size=(480, 640),
    traps=(
        "sky is a huge value (about 10,000 and more), not infinity and not a flag",
        f"environment '{INCONSISTENT}' (27,190 frames) is left out and counted: its sky dome is inconsistent",
        "only the left camera is used; the authors' own disparity is 80 / depth, the factor falls out in min-max",
    ),
)
