"""Scene kinds: how objects, walls, ground, lights and the camera are put together.

"Lower in the image is nearer" must not be the only cue, so several kinds break it on purpose: views down into bins,
floating things, near branches and lamps at the top, big near things at the sides, walls met at an angle.
"""

from __future__ import annotations

from collections.abc import Callable

from datk.data.synthetic.layouts.close_ups import object_close_up, plants
from datk.data.synthetic.layouts.draft import Draft
from datk.data.synthetic.layouts.indoor import corridor, living_room, shelves, workshop
from datk.data.synthetic.layouts.open_air import open_country, street, yard
from datk.data.synthetic.layouts.overhead import bin_from_above, tabletop
from datk.data.synthetic.layouts.unusual import floating, overhang

__all__ = ["LAYOUTS", "Draft"]

LAYOUTS: dict[str, tuple[Callable[[Draft], None], float]] = {
    "object_close_up": (object_close_up, 0.21),
    "living_room": (living_room, 0.11),
    "bin_from_above": (bin_from_above, 0.11),
    "tabletop": (tabletop, 0.09),
    "plants": (plants, 0.08),
    "floating": (floating, 0.08),
    "workshop": (workshop, 0.06),
    "overhang": (overhang, 0.06),
    "street": (street, 0.05),
    "open_country": (open_country, 0.04),
    "yard": (yard, 0.04),
    "shelves": (shelves, 0.03),
    "corridor": (corridor, 0.04),
}
"""Scene kinds with their shares; a real photograph has one thing as its subject in most cases."""
