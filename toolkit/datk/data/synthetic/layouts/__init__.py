"""Scene kinds: how objects, walls, ground, lights and the camera are put together.

"Lower in the image is nearer" must not be the only cue, so several kinds break it on purpose: views down into bins,
floating things, near branches and lamps at the top, big near things at the sides, walls met at an angle.
"""

from __future__ import annotations

from collections.abc import Callable

from datk.data.synthetic.layouts.close_ups import object_close_up, plants
from datk.data.synthetic.layouts.containers import bin_from_above, deep_bin, drawer_or_tray
from datk.data.synthetic.layouts.draft import Draft
from datk.data.synthetic.layouts.indoor import corridor, living_room, shelves, workshop
from datk.data.synthetic.layouts.near_and_up import clutter_close_up, looking_up
from datk.data.synthetic.layouts.open_air import open_country, street, yard
from datk.data.synthetic.layouts.overhead import floor_from_above, stacks_from_above, table_from_above, tabletop
from datk.data.synthetic.layouts.unusual import floating, overhang

__all__ = ["LAYOUTS", "Draft"]

LAYOUTS: dict[str, tuple[Callable[[Draft], None], float]] = {
    "object_close_up": (object_close_up, 0.17),
    "living_room": (living_room, 0.09),
    "tabletop": (tabletop, 0.05),
    "plants": (plants, 0.06),
    "floating": (floating, 0.07),
    "workshop": (workshop, 0.05),
    "overhang": (overhang, 0.04),
    "street": (street, 0.04),
    "open_country": (open_country, 0.03),
    "yard": (yard, 0.03),
    "shelves": (shelves, 0.02),
    "corridor": (corridor, 0.02),
    "bin_from_above": (bin_from_above, 0.06),
    "deep_bin": (deep_bin, 0.05),
    "drawer_or_tray": (drawer_or_tray, 0.03),
    "table_from_above": (table_from_above, 0.03),
    "floor_from_above": (floor_from_above, 0.03),
    "stacks_from_above": (stacks_from_above, 0.03),
    "clutter_close_up": (clutter_close_up, 0.05),
    "looking_up": (looking_up, 0.05),
}
"""Scene kinds with their shares. A real photograph has one thing as its subject in most cases; a robot's camera looks
down: 23 % of the scenes are views down into containers and onto tables and floors."""
