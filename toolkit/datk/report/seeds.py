"""How much a run's int8 depends on the calibration draw: what `datk quantize seeds` left beside the student."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from datk.artifact.manifest import Manifest
from datk.depth.io_spec import Size
from datk.errors import DataError
from datk.evaluate.gates import default_gates
from datk.quantize.seed_spread import LEAST_SEEDS, SeedSpread, file_name, read_spread

QUANTISED = "40-quantize-"
STUDENT = "30-student"
WEIGHTS = "student.safetensors"


class SeedsSaid(BaseModel):
    """One target at one size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    input_size: Size
    said: str
    """In words; "not measured" with the command where it was not."""
    warning: str = ""
    """For the verdict's sentence: which draws fail; empty where none does or nothing is known."""
    summary: dict[str, Any] | None = None
    """SeedSpread.summary; None where it was not measured."""

    @property
    def place(self) -> tuple[str, Size]:
        """Target and size."""
        return self.target, self.input_size


def seeds_said(run_dir: Path, manifests: Mapping[str, Manifest], notes: list[str]) -> list[SeedsSaid]:
    """Of every quantise stage that is done. manifests: by stage name. A damaged file is a note."""
    found = []
    for name, manifest in manifests.items():
        if not name.startswith(QUANTISED) or not {"target", "input_size"} <= manifest.facts.keys():
            continue
        h, w = (int(n) for n in manifest.facts["input_size"])
        found.append(_one(run_dir, str(manifest.facts["target"]), (h, w), manifests.get(STUDENT), notes))
    return found


def _one(run_dir: Path, target: str, size: Size, student: Manifest | None, notes: list[str]) -> SeedsSaid:
    shown = run_dir.resolve()
    shown = shown.relative_to(Path.cwd()) if shown.is_relative_to(Path.cwd()) else run_dir
    weights_file = f"{shown.as_posix()}/{STUDENT}/{WEIGHTS}"
    command = f"datk quantize seeds --target {target} --checkpoint {weights_file} --input-size {size[0]}x{size[1]}"
    path = run_dir / STUDENT / file_name(target, size)

    def not_measured(why: str) -> SeedsSaid:
        said = f"How much int8 depends on the calibration draw is not measured: {why}; `{command}` does."
        return SeedsSaid(target=target, input_size=size, said=said)

    if not path.is_file():
        return not_measured("no other draw was tried")
    try:
        spread = read_spread(path)
    except DataError as error:
        notes.append(error.message)
        return not_measured(f"{path.name} is damaged")
    weights = {o.sha256 for o in student.outputs if o.path == WEIGHTS} if student is not None else set()
    if spread.facts.get("weights_sha256") not in weights:
        return not_measured(f"{path.name} is about other weights")
    if spread.complete < LEAST_SEEDS:
        return not_measured(f"{spread.complete} of at least {LEAST_SEEDS} draws are judged")
    return _told(spread, target, size)


def _told(spread: SeedSpread, target: str, size: Size) -> SeedsSaid:
    summary = spread.summary(default_gates("int8"))
    (low, high), (least, most) = summary["median"], summary["worst"]
    photographs = len(spread.facts["held_out"])
    said = (
        f"Calibration draws: {summary['sentence']}. Correlation with the float net on {photographs} photographs, over "
        f"the seeds: median {low:.6f} to {high:.6f}, worst {least:.6f} to {most:.6f}; mean 1 - r differs by "
        f"{100 * summary['spread_of_loss']:.0f} % of itself; {spread.facts['drawn']} photographs a draw, "
        f"{100 * summary['overlap']:.0f} % of them in common."
    )
    failed, n = summary["failed_seeds"], summary["seeds"]
    warning = ""
    if failed:
        which = "every draw" if len(failed) == n else f"seed {', '.join(map(str, failed))} of {n}"
        warning = f"int8 with another calibration draw: {which} fails the gates"
    return SeedsSaid(target=target, input_size=size, said=said, warning=warning, summary=summary)
