"""Stage 05: synthetic images with exact depth."""

from __future__ import annotations

from datk.artifact.manifest import Dataset, Metric
from datk.config.schema import SyntheticSection
from datk.pipeline.stage import Outcome, StageRun


def run(section: SyntheticSection, stage: StageRun) -> Outcome:
    """Render into the stage folder; images already there and whole are kept."""
    from datk.artifact.files import sha256_file
    from datk.data import synthetic

    summary = synthetic.generate(
        stage.out,
        count=section.count,
        size=section.size,
        seed=stage.seed,
        renderer=section.renderer,
        progress=stage.reporter.progress,
    )
    stage.reporter.note(f"renderer: {summary.renderer} ({summary.reason})")
    return Outcome(
        datasets=[
            Dataset(
                name="datk synthetic",
                split_sha256=sha256_file(stage.out / "index.json"),
                licence="Apache-2.0 (made here)",
                n=section.count,
            )
        ],
        metrics={"images": Metric(value=section.count, unit="images", n=section.count)},
        facts={"renderer": summary.renderer, "renderer_reason": summary.reason},
    )
