"""Recipe section of one labelled data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from datk.config.section import PathText, StrictSection


class SetSection(StrictSection):
    """A folder laid out as a data set datk has an adapter for (`datk data list`)."""

    name: str
    """Adapter: hypersim, vkitti2, tartanair, irs, blendedmvs, ..."""
    root: PathText
    """Folder of the set."""
    split: str | None = None
    """Only this split, or part of one; None: everything."""
    listing: PathText | None = None
    """Text file with the images to take, one a line, relative to the folder; None: all."""
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Fraction of the images seen that come from this set; None: what the others leave, by number of images. With no
    share anywhere the sets are simply put end to end, as in the paper."""
    allow_missing: bool = False
    """Leave incomplete pairs out and count them; otherwise they are an error."""


def check_shares(sections: Sequence[SetSection]) -> None:
    """Raise ValueError unless the shares leave something to the sets that have none."""
    given = [s.share for s in sections if s.share is not None]
    rest = len(sections) - len(given)
    if rest and sum(given) >= 1:
        raise ValueError(f"data: the shares add up to {sum(given):g} and leave nothing to {rest} set(s) without one")
