"""Stage 05 where a recipe names labelled sets: what was found in them, before hours are spent on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datk.artifact.files import write_json
from datk.artifact.manifest import Dataset, Metric
from datk.config.data_section import SetSection
from datk.data.labelled_sets import NamedSets, mix, names_sha256, open_sets
from datk.data.sample import Sample
from datk.pipeline.stage import Outcome, StageRun

if TYPE_CHECKING:
    from datk.train.labelled import LabelledSets
    from datk.train.samples import TrainingSample

NAME = "05-data"
FILE = "data.json"


def run(sections: Sequence[SetSection], stage: StageRun) -> Outcome:
    """Open every set, decode its first sample, write the counts. Raises UsageError, DataError, EnvironmentLacks."""
    sets = open_sets(sections)
    for name, dataset in sets:
        dataset.read(0)
        left_out = "".join(f"; {count:,} left out: {reason}" for reason, count in dataset.left_out)
        stage.reporter.note(f"{name}: {len(dataset):,} images{left_out}")
    shares = {name: section.share for (name, _), section in zip(sets, sections, strict=True)}
    found = {
        name: {"images": len(dataset), "left_out": dict(dataset.left_out), "share": shares[name]}
        for name, dataset in sets
    }
    write_json(stage.out / FILE, {"sets": found})
    total = sum(len(dataset) for _, dataset in sets)
    return Outcome(
        datasets=records(sets),
        metrics={"images": Metric(value=total, unit="images", n=total)},
        facts={"sets": found},
    )


def records(sets: NamedSets) -> list[Dataset]:
    """The sets as manifests name them; split_sha256 is of the images' names."""
    return [
        Dataset(name=name, split_sha256=names_sha256(dataset), licence=dataset.adapter.licence, n=len(dataset))
        for name, dataset in sets
    ]


def refs(sections: Sequence[SetSection]) -> tuple[tuple[str, str, str], ...]:
    """(role, folder, sha256 of the names) of every set, for a stage's key."""
    return tuple(
        (f"data {name}", str(section.root), names_sha256(dataset))
        for (name, dataset), section in zip(open_sets(sections), sections, strict=True)
    )


def labelled_sets(
    sections: Sequence[SetSection],
    stage: StageRun,
    *,
    seed: int,
    target: Callable[[Sample], TrainingSample] | None = None,
) -> LabelledSets:
    """The sets as training reads them; what cannot be read is listed in the stage's folder."""
    from datk.train.labelled import LabelledSets

    return LabelledSets(mix(open_sets(sections), sections, seed=seed), stage.out, target=target)


def sections_of(sections: Sequence[SetSection], rendered: Path | None) -> tuple[SetSection, ...]:
    """The recipe's sets; without any the folder of images rendered here."""
    if sections or rendered is None:
        return tuple(sections)
    return (SetSection(name="synthetic", root=rendered),)


def licence_of_weights(datasets: Sequence[Dataset], start: str) -> str:
    """What a file trained here says of its licence: that of the weights it began with, and what it learned from."""
    return f"{start}; trained on " + ", ".join(f"{d.name} ({d.licence})" for d in datasets)
