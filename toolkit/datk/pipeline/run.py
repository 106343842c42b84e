"""`datk run` and everything built on it: a recipe into a run folder, with a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from datk.artifact.manifest import Manifest
from datk.config.schema import Recipe
from datk.pipeline.execute import Planned, Selection, execute, plan_stages
from datk.pipeline.promotion import refresh
from datk.pipeline.route import stages_of
from datk.pipeline.stage import Reporter
from datk.pipeline.steps import weights
from datk.pipeline.teachers import check_teacher


@dataclass(frozen=True)
class RunResult:
    """What a run left behind."""

    run_dir: Path
    manifests: dict[str, Manifest]
    failures: dict[str, str] = field(default_factory=dict)
    """Stage -> why its target could not build it, for the stages of this call that failed."""
    report: dict[str, Path] = field(default_factory=dict)
    """html, markdown and json of the report; empty when the run ended before it."""

    @property
    def rejected(self) -> dict[str, list[str]]:
        """Artifact -> reasons, for every artifact whose export or measurement rejected it."""
        return self._with("rejected")

    @property
    def unverified(self) -> dict[str, list[str]]:
        """Artifact -> reasons, for every artifact that this machine could not run."""
        return self._with("unverified")

    def _with(self, status: str) -> dict[str, list[str]]:
        out: dict[str, list[str]] = {}
        for name, manifest in self.manifests.items():
            if manifest.verdict is not None and manifest.verdict.status == status:
                short = name.removeprefix("50-export-").removeprefix("60-validate-").removeprefix("67-")
                out.setdefault(short, []).extend(r for r in manifest.verdict.reasons if r not in out.get(short, []))
        return out


def recipe_text(recipe: Recipe) -> str:
    """The resolved recipe as YAML: what a run folder keeps."""
    return yaml.safe_dump(recipe.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def plan(recipe: Recipe, run_dir: Path, selection: Selection) -> list[Planned]:
    """What `run` would do, stage by stage."""
    return plan_stages(stages_of(recipe), run_dir, selection, seed=recipe.seed)


def run(
    recipe: Recipe,
    run_dir: Path,
    selection: Selection,
    *,
    reporter: Reporter,
    keep: Recipe | None = None,
    jobs: int | None = None,
) -> RunResult:
    """Run the recipe and write the report. Raises DatkError; a rejected artifact or a target's failure is in the
    result, not raised.

    keep: the recipe the run folder shall hold where it is more than what runs now (an added target).
    jobs: how many stages of targets to build at a time; None: as many as cores and free memory allow.
    """
    from datk.report.build import build_report

    stages = stages_of(recipe)
    if selection.first is None:
        _read_checkpoints(recipe)
    text = recipe_text(keep or recipe)
    executed = execute(stages, run_dir, selection, seed=recipe.seed, recipe_text=text, reporter=reporter, jobs=jobs)
    refresh(run_dir)
    if selection.until is not None:
        return RunResult(run_dir, executed.manifests, executed.failures)
    reporter.stage("report", "write the report", "running")
    paths = build_report(run_dir)
    reporter.stage("report", "write the report", "done")
    files = {"html": paths.html, "markdown": paths.markdown, "json": paths.json}
    return RunResult(run_dir, executed.manifests, executed.failures, files)


def _read_checkpoints(recipe: Recipe) -> None:
    """Refuse wrong, truncated, ambiguous or malicious weights before a run folder exists. Raises CheckpointError."""
    given = recipe.checkpoints
    if given.student is not None:
        weights.read(Path(given.student), given.kind, given.max_depth_m)
    if given.teacher is not None:
        check_teacher(given.teacher)
