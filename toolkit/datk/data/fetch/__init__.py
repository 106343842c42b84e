"""Data sets that datk can download itself: where they are, what they weigh, what their licence says."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from datk.errors import UsageError

DA2K_REVISION = "528f83c26f02a6a7a11c5a036dfc9ee19907ebd9"


@dataclass(frozen=True, kw_only=True)
class Fetchable:
    """One archive behind one address, pinned to a revision."""

    name: str
    title: str
    url: str
    revision: str
    sha256: str
    """Of the archive, as its publisher's file page shows it."""
    about_bytes: int
    """Roughly; the server tells the exact number."""
    folder: Path
    """Where it goes unless told otherwise."""
    holds: str
    """A file below `folder` that is there once the archive is unpacked."""
    licence: str
    notice: str
    """What a user must know before using it."""


DA2K = Fetchable(
    name="da2k",
    title="DA-2K: relative depth of point pairs in eight scene kinds",
    url=f"https://huggingface.co/datasets/depth-anything/DA-2K/resolve/{DA2K_REVISION}/DA-2K.zip",
    revision=DA2K_REVISION,
    sha256="ff0e48e7cc53273efd1312610e51f1ec87bea0b8a22daf37125fd81246592b81",
    about_bytes=681_000_000,
    folder=Path("data/da2k"),
    holds="DA-2K/annotations.json",
    licence="Apache-2.0 by its publisher's tag",
    notice="DA-2K, Yang et al. 2024 (Depth Anything V2). The publisher's tag is Apache-2.0; the photographs are from "
    "Flickr and stay under their photographers' terms. For evaluation, not for training.",
)

KNOWN = {item.name: item for item in (DA2K,)}


def get(name: str) -> Fetchable:
    """The data set of that name. Raises UsageError with the known names and the nearest one."""
    if name in KNOWN:
        return KNOWN[name]
    near = difflib.get_close_matches(name, KNOWN, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UsageError(
        f"datk cannot fetch '{name}'",
        hint=f"{hint}it fetches: {', '.join(KNOWN)}; `datk data list` says where the others are",
    )
