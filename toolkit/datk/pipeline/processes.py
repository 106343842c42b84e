"""A run under torchrun: the first process walks the route; the others wait, and join it in the stages that train."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from datk.artifact.manifest import read_manifest
from datk.config.schema import Recipe
from datk.pipeline.route import stages_of
from datk.pipeline.stage import Stage, StageRun


class Silent:
    """A Reporter that tells nobody."""

    def stage(self, name: str, title: str, state: str) -> None:
        """Nothing."""

    def progress(self, done: int, total: int, what: str = "", stage: str = "") -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


def call_others(stage: Stage, out: Path) -> None:
    """In the first process: have the others run this stage as well. Without torchrun there is nobody to call."""
    if stage.together:
        from datk.train.world import current_world

        current_world().from_main({"stage": stage.name, "out": str(out)})


def check_shares(stages: Sequence[Stage], processes: int) -> None:
    """Raise UsageError where one of these stages, about to run, has a batch the processes cannot share: before hours of
    rendering or labelling, not after."""
    from datk.train.world import World

    world = World(size=processes)
    for stage in (stage for stage in stages if stage.together):
        if (schedule := stage.section.get("schedule")) is not None:
            world.check_divides(schedule["batch_size"], key=f"{stage.verb}.schedule.batch_size")
        elif (learnt := stage.section.get("qat")) is not None:
            world.check_divides(learnt["batch_size"], key=f"qat.batch_size of {stage.section['target']}")


@contextmanager
def together(recipe: Recipe, run_dir: Path) -> Iterator[bool]:
    """Join what torchrun started; yields whether this process is the first, which then runs the recipe.

    Any other process works here for as long as the first calls it, and gets False afterwards. An error of one process
    ends it, upon which torchrun ends all; they go on from the last checkpoint when started again.
    """
    import torch

    from datk.train.world import joined

    with joined(cuda=torch.cuda.is_available()) as world:
        if world.main:
            yield True
            world.from_main({"stage": None})
            return
        while (order := world.from_main(None))["stage"] is not None:
            _run(order["stage"], Path(order["out"]), recipe, run_dir)
        yield False


def _run(name: str, out: Path, recipe: Recipe, run_dir: Path) -> None:
    stage = next(s for s in stages_of(recipe) if s.name == name)
    needs = {n: (run_dir / n, read_manifest(run_dir / n)) for n in stage.needs}
    stage.run(StageRun(out=out, needs=needs, reporter=Silent(), seed=recipe.seed))
