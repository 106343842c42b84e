"""What a licence, as datk writes it, says about commercial use: judged part by part, and unknown stays unknown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Use = Literal["allowed", "refused", "unknown", "yours"]
"""Commercial use. yours: the user's own images, whose rights datk cannot know."""

OWN = "the user's own"
STATED = " (stated by the user)"

_PERMISSIVE = re.compile(
    r"apache(-| license,? (version )?)2\.0|mit( license)?|bsd([- ][23]-clause)?|isc|unlicense|zlib|"
    r"cc0([- ]1\.0)?|public domain|cc[- ]by([- ]sa)?[- ][1-4]\.0|unrestricted use|cdla-permissive-[12]\.0|pddl(-1\.0)?"
)
_NON_COMMERCIAL = re.compile(r"\bnc\b|non-?\s?commercial|research (use|licen[cs]e|only|and education)|for research")


@dataclass(frozen=True)
class Link:
    """One thing an artifact was made from."""

    role: str
    """weights, teacher, labels, data, calibration data, golden photographs."""
    name: str
    licence: str
    sha256: str = ""

    @property
    def use(self) -> Use:
        return commercial_use(self.licence)


def commercial_use(licence: str) -> Use:
    """The strictest of the licence's parts: refused before unknown before yours before allowed."""
    parts = list(_parts(licence))
    found = {_use_of_part(p) for p in parts} or {"unknown"}
    order: tuple[Use, ...] = ("refused", "unknown", "yours", "allowed")
    return next(use for use in order if use in found)


def blockers(chain: Sequence[Link]) -> list[str]:
    """A line for every link that commercial use does not pass, in the chain's order."""
    words = {"refused": "not for commercial use", "unknown": "unknown"}
    return [f"{link.role} {link.name}: {link.licence} ({words[link.use]})" for link in chain if link.use in words]


def _use_of_part(part: str) -> Use:
    plain = part.strip().lower()
    if plain == OWN:
        return "yours"
    if _NON_COMMERCIAL.search(plain):
        return "refused"
    bare = re.sub(r"\s*\([^()]*\)$", "", plain)  # a remark, such as who stated it
    return "allowed" if _PERMISSIVE.fullmatch(bare) else "unknown"


def _parts(licence: str) -> Iterator[str]:
    """Single licences of a text such as "Apache-2.0; trained on A (MIT), B (CC BY 4.0); labels by weights under C"."""
    for piece in _split(licence, ";"):
        if piece.startswith("trained on "):
            for data in _split(piece.removeprefix("trained on "), ","):
                inside = re.search(r"\((.*)\)$", data)
                yield inside.group(1) if inside else data
        else:
            yield piece.removeprefix("labels by weights under ")


def _split(text: str, separator: str) -> Iterator[str]:
    """Pieces between separators that stand outside all brackets."""
    depth, piece = 0, ""
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == separator and depth == 0:
            yield piece.strip()
            piece = ""
        else:
            piece += letter
    if piece.strip():
        yield piece.strip()
