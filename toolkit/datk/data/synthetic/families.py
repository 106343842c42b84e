"""The object families by name, with where they may stand. The one list that layouts and tests read."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from datk.data.synthetic import furniture, objects, outdoor, thin
from datk.data.synthetic.objects import Parts, Rng


class Family(NamedTuple):
    """How to build one, and its tags: hand (fits on a table), floor, yard, wall, ceiling, thin, plant."""

    build: Callable[[Rng], Parts]
    tags: frozenset[str]


def _family(build: Callable[[Rng], Parts], tags: str) -> Family:
    return Family(build, frozenset(tags.split()))


FAMILIES: dict[str, Family] = {
    "box": _family(objects.crate_box, "hand"),
    "ball": _family(objects.ball, "hand"),
    "can": _family(objects.can, "hand"),
    "bottle": _family(objects.bottle, "hand"),
    "cup": _family(objects.cup, "hand"),
    "donut": _family(objects.donut, "hand"),
    "blob": _family(objects.blob, "hand"),
    "books": _family(objects.books, "hand"),
    "gadget": _family(objects.gadget, "hand"),
    "fabric": _family(objects.fabric, "hand"),
    "animal": _family(objects.toy_animal, "hand floor yard"),
    "person": _family(objects.person, "floor yard"),
    "table": _family(furniture.table, "floor"),
    "chair": _family(furniture.chair, "floor thin"),
    "garden_chair": _family(furniture.garden_chair, "floor yard thin"),
    "shelf": _family(furniture.shelf, "floor"),
    "cabinet": _family(furniture.cabinet, "floor"),
    "sofa": _family(furniture.sofa, "floor"),
    "bed": _family(furniture.bed, "floor"),
    "monitor": _family(furniture.monitor, "hand"),
    "floor_lamp": _family(furniture.floor_lamp, "floor thin"),
    "hanging_lamp": _family(furniture.hanging_lamp, "ceiling thin"),
    "picture": _family(furniture.framed_picture, "wall"),
    "wall_mirror": _family(furniture.wall_mirror, "wall"),
    "glass_screen": _family(furniture.glass_screen, "floor"),
    "fence": _family(thin.fence, "yard thin"),
    "grille": _family(thin.grille, "floor yard thin"),
    "perforated_plate": _family(thin.perforated_plate, "floor thin"),
    "wheel": _family(thin.wheel, "floor yard thin"),
    "bicycle": _family(thin.bicycle, "floor yard thin"),
    "motorcycle": _family(thin.motorcycle, "floor yard"),
    "railing": _family(thin.railing, "yard thin"),
    "ladder": _family(thin.ladder, "floor yard thin"),
    "cables": _family(thin.cables, "street thin"),
    "lamp_post": _family(thin.lamp_post, "street thin"),
    "rosette": _family(thin.rosette, "floor hand plant thin"),
    "leafy_plant": _family(thin.leafy_plant, "floor yard plant thin"),
    "bare_branches": _family(thin.bare_branches, "yard plant thin"),
    "bush": _family(outdoor.bush, "yard plant thin"),
    "tree": _family(outdoor.tree, "street plant"),
    "conifer": _family(outdoor.conifer, "street plant"),
    "building": _family(outdoor.building, "street"),
    "car": _family(outdoor.car, "street"),
    "rock": _family(outdoor.rock, "yard"),
    "stairs": _family(outdoor.stairs, "yard"),
}


def tagged(*tags: str) -> list[str]:
    """Names of the families that have any of the tags."""
    return [name for name, family in FAMILIES.items() if family.tags & set(tags)]
