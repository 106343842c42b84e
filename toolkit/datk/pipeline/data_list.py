"""`datk data list`: everything datk reads."""

from __future__ import annotations

import difflib

from pydantic import BaseModel

from datk.data import adapters
from datk.data.sources.presets import PRESETS
from datk.errors import UsageError


class Known(BaseModel):
    """A data set with depth, or a source of unlabelled images."""

    name: str
    title: str
    role: str
    """train, evaluate or unlabelled."""
    images: int | None
    """The paper's count (Table 7), or the evaluation protocol's."""
    scenes: str
    format: str
    layouts: list[str]
    traps: list[str]
    licence: str
    home: str

    def rows(self) -> list[list[str]]:
        """For people."""
        return [
            ["for", self.role],
            ["images", f"{self.images:,}" if self.images else "-"],
            ["scenes", self.scenes],
            ["licence", self.licence],
            ["where to get it", self.home],
            ["format", self.format],
            *(["layout", text] for text in self.layouts),
            *(["mind", text] for text in self.traps),
        ]


def known(name: str | None = None) -> list[Known]:
    """Sets with depth first, then unlabelled ones, by name; or the one named. Raises UsageError for an unknown name."""
    labelled = [
        Known(
            name=a.name,
            title=a.title,
            role=a.role,
            images=a.paper_images,
            scenes=a.scenes,
            format=a.depth,
            layouts=[layout.shown for layout in a.layouts],
            traps=list(a.traps),
            licence=a.licence,
            home=a.home,
        )
        for a in adapters.available().values()
    ]
    unlabelled = [
        Known(
            name=p.name,
            title=p.title,
            role="unlabelled",
            images=p.paper_images,
            scenes=p.scenes,
            format=", ".join(dict.fromkeys(layout.kind for layout in p.layouts)),
            layouts=[layout.shown for layout in p.layouts],
            traps=[p.note] if p.note else [],
            licence=p.licence,
            home=p.home,
        )
        for p in PRESETS.values()
    ]
    order = {"train": 0, "evaluate": 1, "unlabelled": 2}
    found = sorted([*labelled, *unlabelled], key=lambda k: (order[k.role], k.name))
    if name is None:
        return found
    chosen = [k for k in found if k.name == name]
    if not chosen:
        near = difflib.get_close_matches(name, [k.name for k in found], n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UsageError(f"no data set named '{name}'", hint=f"{hint}all: datk data list")
    return chosen
