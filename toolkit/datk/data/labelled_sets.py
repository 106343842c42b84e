"""The labelled sets a recipe names: opened, mixed by share, and told apart by the names of their images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from datk.config.data_section import SetSection
from datk.data.adapters import get
from datk.data.dataset import AdaptedDataset, MixedDataset, open_dataset

NamedSets = list[tuple[str, AdaptedDataset]]


def open_sets(sections: Sequence[SetSection]) -> NamedSets:
    """Every set under a name of its own (a second folder of one set becomes "hypersim 2").

    Raises UsageError, DataError or EnvironmentLacks; see datk.data.dataset.open_dataset.
    """
    found: NamedSets = []
    for section in sections:
        again = sum(1 for s in sections[: len(found)] if s.name == section.name)
        dataset = open_dataset(
            section.name,
            section.root,
            section.split,
            listing=section.listing,
            allow_missing=section.allow_missing,
        )
        found.append((section.name if not again else f"{section.name} {again + 1}", dataset))
    return found


def mix(sets: NamedSets, sections: Sequence[SetSection], *, seed: int) -> MixedDataset:
    """The sets as one, in the order their shares ask for."""
    weights = weights_from_shares([s.share for s in sections], [len(dataset) for _, dataset in sets])
    return MixedDataset(sets, weights=weights, seed=seed)


def weights_from_shares(shares: Sequence[float | None], lengths: Sequence[int]) -> list[float] | None:
    """Fraction of the stream that each set gets; None (end to end) when no set has a share.

    Sets without a share divide what the others leave, in proportion to their number of images.
    """
    if all(share is None for share in shares):
        return None
    left = 1 - sum(share for share in shares if share is not None)
    free = sum(length for share, length in zip(shares, lengths, strict=True) if share is None)
    return [share if share is not None else left * length / free for share, length in zip(shares, lengths, strict=True)]


def names_sha256(dataset: AdaptedDataset) -> str:
    """Of the set's name and the names of its images, in order. Millions of files are not read for it: a picture that
    changed under its old name goes unnoticed."""
    digest = hashlib.sha256(dataset.name.encode() + b"\0")
    for index in range(len(dataset)):
        digest.update(dataset.key(index).encode() + b"\0")
    return digest.hexdigest()


def what_is_missing(section: SetSection) -> str | None:
    """Which set is not where the recipe says, and where to get it; None when the folder is there."""
    adapter = get(section.name)
    if not section.root.is_dir():
        return f"{section.root}: {adapter.title}, from {adapter.home}"
    if section.listing is not None and not section.listing.is_file():
        return f"{section.listing}: the list of images to take from {adapter.title}"
    return None
