"""What training stages report, in the manifest's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datk.artifact.manifest import Dataset, Metric, Weights
from datk.pipeline.stage import Outcome

if TYPE_CHECKING:
    from datk.train.result import TrainResult


def training_outcome(result: TrainResult, *, name: str, datasets: list[Dataset], licence: str) -> Outcome:
    """Weights, loss, steps and time of a training stage. The state it resumed from is done with and removed."""
    from datk.train.checkpoint import drop_state

    fit = result.fit
    counted = {}
    if "unreadable" in result.facts:
        counted["unreadable_images"] = Metric(
            value=int(result.facts["unreadable"]), unit="images", n=int(result.facts["images"]), higher_is_better=False
        )
    drop_state(result.weights.parent)
    return Outcome(
        weights=[Weights(name=name, sha256=result.weights_sha256, licence=licence)],
        datasets=datasets,
        metrics={
            "steps": Metric(value=fit.steps, unit="steps", n=1),
            "final_loss": Metric(value=fit.final_loss, unit="1", n=fit.steps, higher_is_better=False),
            **counted,
        },
        facts={**result.facts, "device": fit.device, "precision": fit.precision, "processes": fit.processes},
    )
