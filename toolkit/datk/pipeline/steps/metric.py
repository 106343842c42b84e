"""Stage 30 of a metric recipe: an encoder that knows relative depth learns metres."""

from __future__ import annotations

from collections.abc import Sequence

from datk.config.data_section import SetSection
from datk.config.metric_section import MetricSection
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps import data, weights
from datk.pipeline.steps.training import training_outcome


def run(section: MetricSection, sets: Sequence[SetSection], stage: StageRun) -> Outcome:
    """Fine-tune on the sets, or on the rendered images; resumes from its own checkpoint after Ctrl-C."""
    from datk.train.labelled import MetricTarget
    from datk.train.metric import train_metric

    before = data.NAME if sets else "05-synthetic"
    used = data.sections_of(sets, None if sets else stage.folder(before))
    licence = data.licence_of_weights(stage.manifest(before).datasets, weights.licence_of_start(section.checkpoint))
    target = MetricTarget(section.min_depth_m, section.max_depth_m)
    labelled = data.labelled_sets(used, stage, seed=stage.seed, target=target)
    result = train_metric(
        section, labelled, stage.out, seed=stage.seed, licence=licence, progress=stage.reporter.progress
    )
    stage.reporter.note(f"metres up to {section.max_depth_m:g}; started from {result.facts['started_from']}")
    return training_outcome(
        result,
        name=f"metric {section.size}",
        datasets=stage.manifest(before).datasets,
        licence=licence,
    )
